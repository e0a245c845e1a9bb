package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// report tells a caller how a deploy goes. Once the caller is gone it says so in err and tells nothing
// more. It is safe for concurrent use.
type report struct {
	mu       sync.Mutex
	err      error
	started  time.Time
	progress func(*maruv1.Progress) error
	status   func(*maruv1.RolloutStatus) error
	result   func(*maruv1.DeployResult) error
	followed map[string]maru.AfterPhase // by service: what was told of the step after the rollout
}

func (r *report) send(send func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = send()
	}
}

func (r *report) lost() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *report) step(p *maruv1.Progress) {
	p.Message, p.Log = valid(p.Message), valid(p.Log)
	r.send(func() error { return r.progress(p) })
}

func (r *report) rollout(s *Server, rollout maru.Rollout, services []maru.ServiceStatus) {
	r.send(func() error {
		return r.status(&maruv1.RolloutStatus{Rollout: rolloutProto(rollout), Services: s.servicesProto(services)})
	})
}

// after tells how the steps go that follow a rollout which succeeded.
func (r *report) after(rollout maru.Rollout) {
	for _, name := range slices.Sorted(maps.Keys(rollout.Services)) {
		e := rollout.Services[name]
		if e.After == r.followed[name] {
			continue
		}
		if r.followed == nil {
			r.followed = map[string]maru.AfterPhase{}
		}
		r.followed[name] = e.After
		state := map[maru.AfterPhase]string{maru.AfterRuns: "started", maru.AfterDone: "done", maru.AfterFailed: "failed"}[e.After]
		r.step(&maruv1.Progress{Service: name, Step: "after", State: state, Message: e.AfterReason})
	}
}

// done ends the report, and gives the error of a caller that is gone.
func (r *report) done(s *Server, rollout int, services []maru.ServiceStatus) error {
	r.send(func() error {
		return r.result(&maruv1.DeployResult{
			Rollout: int32(rollout), Unchanged: rollout == 0, Services: s.servicesProto(services),
			Took: durationpb.New(time.Since(r.started)),
		})
	})
	return r.lost()
}
