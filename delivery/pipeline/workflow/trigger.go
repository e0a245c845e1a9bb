package workflow

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// The events that happen here. Workflows may name any other of GitHub's as well: they never happen.
const (
	Push             = "push"
	PullRequest      = "pull_request"
	WorkflowDispatch = "workflow_dispatch"
	ScheduleEvent    = "schedule"
	WorkflowCall     = "workflow_call"
)

var ourEvents = []string{Push, PullRequest, WorkflowDispatch, ScheduleEvent, WorkflowCall}

// Event is something that happened, as far as filters ask.
type Event struct {
	Name   string   // push, pull_request, workflow_dispatch, schedule
	Ref    string   // of a push: refs/heads/… or refs/tags/…
	Base   string   // of a pull request: the branch that it is for
	Action string   // of a pull request: opened, synchronize, reopened, …
	Paths  []string // that changed; nil: not known, and then path filters let it through
	Cron   string   // of a schedule: the entry whose time has come
}

// Triggers tells whether the event starts the workflow.
func (w *Workflow) Triggers(e Event) bool {
	return slices.ContainsFunc(w.On, func(t Trigger) bool { return t.Event == e.Name && t.lets(e) })
}

func (t Trigger) lets(e Event) bool {
	switch e.Name {
	case Push:
		return t.letsPush(e)
	case PullRequest:
		types := t.Types
		if len(types) == 0 {
			types = []string{"opened", "synchronize", "reopened"}
		}
		return (e.Action == "" || slices.Contains(types, e.Action)) && filter(t.Branches, t.BranchesIgnore, e.Base) && t.letsPaths(e)
	case ScheduleEvent:
		return e.Cron == "" || slices.ContainsFunc(t.Schedules, func(s Schedule) bool { return s.Cron == e.Cron })
	}
	return true
}

// letsPush: with filters for branches alone tags don't start it, and the other way round.
func (t Trigger) letsPush(e Event) bool {
	branches := t.Branches != nil || t.BranchesIgnore != nil
	tags := t.Tags != nil || t.TagsIgnore != nil
	if tag, ok := strings.CutPrefix(e.Ref, "refs/tags/"); ok {
		if branches && !tags {
			return false
		}
		return filter(t.Tags, t.TagsIgnore, tag) // paths are not asked for tags
	}
	branch, ok := strings.CutPrefix(e.Ref, "refs/heads/")
	if !ok || tags && !branches {
		return false
	}
	return filter(t.Branches, t.BranchesIgnore, branch) && t.letsPaths(e)
}

func (t Trigger) letsPaths(e Event) bool {
	if e.Paths == nil || t.Paths == nil && t.PathsIgnore == nil {
		return true
	}
	return slices.ContainsFunc(e.Paths, func(p string) bool { return filter(t.Paths, t.PathsIgnore, p) })
}

func filter(only, ignore []string, name string) bool {
	if only != nil && !matchPatterns(only, name) {
		return false
	}
	return ignore == nil || !matchPatterns(ignore, name)
}

// Next gives the first time after t at which the schedule comes.
func (s Schedule) Next(t time.Time) time.Time {
	schedule, err := s.parse()
	if err != nil {
		return time.Time{}
	}
	return schedule.Next(t)
}

func (s Schedule) parse() (cron.Schedule, error) {
	zone := s.Timezone
	if zone == "" {
		zone = "UTC"
	}
	if strings.Contains(s.Cron, "TZ=") {
		return nil, fmt.Errorf("the schedule %q has a time zone in it; write timezone beside cron", s.Cron)
	}
	schedule, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse("TZ=" + zone + " " + s.Cron)
	if err != nil {
		return nil, fmt.Errorf("the schedule %q can't be read: %w", s.Cron, err)
	}
	return schedule, nil
}
