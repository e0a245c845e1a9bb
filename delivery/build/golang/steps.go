package golang

import (
	"time"

	"github.com/marucloud/maru/delivery/build"
)

// steps tells of a build's steps as they go.
type steps struct {
	emit  func(build.Event)
	count int
}

// step is one of them while it runs.
type step struct {
	all     *steps
	number  int
	name    string
	started time.Time
}

func (s *steps) run(name string, do func(*step) error) error {
	s.count++
	one := &step{all: s, number: s.count, name: name, started: time.Now()}
	s.emit(build.Event{Step: one.number, Name: name, Status: build.StepStarted, Started: one.started})
	err := do(one)
	done := build.Event{Step: one.number, Name: name, Status: build.StepDone, Started: one.started, Completed: time.Now()}
	if err != nil {
		done.Status, done.Error = build.StepFailed, err.Error()
	}
	s.emit(done)
	return err
}

func (s *steps) cached(name string) {
	s.count++
	now := time.Now()
	s.emit(build.Event{Step: s.count, Name: name, Status: build.StepCached, Started: now, Completed: now})
}

func (s *step) log(line string) {
	s.all.emit(build.Event{Step: s.number, Name: s.name, Log: line})
}
