package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// Follow tells how a rollout goes until it is final.
func (s appService) Follow(ctx context.Context, req *maruv1.FollowRequest, stream *connect.ServerStream[maruv1.FollowResponse]) error {
	to := &report{
		started: time.Now(),
		progress: func(p *maruv1.Progress) error {
			return stream.Send(&maruv1.FollowResponse{Event: &maruv1.FollowResponse_Progress{Progress: p}})
		},
		status: func(p *maruv1.RolloutStatus) error {
			return stream.Send(&maruv1.FollowResponse{Event: &maruv1.FollowResponse_Status{Status: p}})
		},
		result: func(p *maruv1.DeployResult) error {
			return stream.Send(&maruv1.FollowResponse{Event: &maruv1.FollowResponse_Result{Result: p}})
		},
	}
	rollout, err := s.rollout(ctx, fromScope(req.Scope), int(req.Rollout))
	if err != nil {
		return err
	}
	return s.follow(ctx, rollout, to)
}

// rollout finds a rollout by its number; 0: the latest.
func (s *Server) rollout(ctx context.Context, scope maru.Scope, number int) (maru.Rollout, error) {
	all, err := s.deps.State.Rollouts(ctx, scope)
	if err != nil {
		return maru.Rollout{}, err
	}
	i := slices.IndexFunc(all, func(r maru.Rollout) bool { return number == 0 || r.Number == number })
	if i < 0 {
		return maru.Rollout{}, maru.WithHint(maru.Errorf(maru.NotFound, "app %s has no rollout %d", scope.App, number),
			"`maru releases` lists what there is")
	}
	return all[i], nil
}

// follow tells how the rollout goes until it is final, and gives why it failed, if it did.
func (s *Server) follow(ctx context.Context, rollout maru.Rollout, to *report) error {
	ctx, cancel := context.WithCancel(ctx)
	output := &releaseOutput{server: s, to: to}
	defer output.wait()
	defer cancel()
	for status, err := range s.deps.State.Watch(ctx, rollout.Scope) {
		if maru.KindOf(err) == maru.NotFound {
			break // the app was removed: what became of the rollout may still be kept
		}
		if err != nil {
			return err
		}
		if status.Rollout == nil || status.Rollout.Number < rollout.Number {
			continue // a state from before the rollout
		}
		if status.Rollout.Number > rollout.Number {
			break
		}
		rollout = *status.Rollout
		to.rollout(s, rollout, inRollout(rollout, status.Services))
		output.observe(ctx, rollout)
		if err := to.lost(); err != nil {
			return err
		}
		to.after(rollout)
		if rollout.Phase.Final() && !rollout.AfterRuns() {
			return s.conclude(ctx, rollout, status.Services, to)
		}
	}
	if err := ended(ctx); err != nil {
		return err
	}
	return s.lookBack(ctx, rollout, to)
}

// lookBack tells how a rollout ended that can't be watched any more.
func (s *Server) lookBack(ctx context.Context, rollout maru.Rollout, to *report) error {
	last, err := s.rollout(ctx, rollout.Scope, rollout.Number)
	if maru.KindOf(err) == maru.NotFound && rollout.Cause == "remove" {
		return to.done(s, rollout.Number, nil) // nothing is left, not even the rollout that removed it
	}
	if err != nil {
		return err
	}
	to.rollout(s, last, nil)
	if !last.Phase.Final() {
		return maru.WithHint(maru.Errorf(maru.Unavailable, "rollout %d can't be watched any more", last.Number), "`maru status` tells how it is")
	}
	return s.conclude(ctx, last, nil, to)
}

func inRollout(rollout maru.Rollout, services []maru.ServiceStatus) []maru.ServiceStatus {
	return slices.DeleteFunc(slices.Clone(services), func(v maru.ServiceStatus) bool {
		_, ok := rollout.Services[v.Name]
		return !ok
	})
}

// conclude ends the report of a rollout that is final.
func (s *Server) conclude(ctx context.Context, r maru.Rollout, services []maru.ServiceStatus, to *report) error {
	switch r.Phase {
	case maru.Succeeded:
		s.awaitTraffic(ctx)
		return to.done(s, r.Number, services)
	case maru.RolledBackPhase:
		return maru.WithHint(maru.Errorf(maru.RolledBack, "rollout %d was rolled back: %s", r.Number, reasonOf(r)), failureHint(r))
	case maru.Superseded:
		return maru.WithHint(maru.Errorf(maru.Conflict, "rollout %d was given up for a newer one", r.Number), "`maru status` tells how that one is")
	}
	return maru.WithHint(maru.Errorf(maru.Conflict, "rollout %d failed: %s", r.Number, reasonOf(r)), failureHint(r))
}

// trafficPatience is how long a rollout that succeeded waits for data planes. One that is away is told later.
const trafficPatience = 2 * time.Second

// awaitTraffic lets who deployed find the new release, and nothing else, at once.
func (s *Server) awaitTraffic(ctx context.Context) {
	if s.deps.Traffic == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, trafficPatience, errors.New("a data plane does not follow"))
	defer cancel()
	if err := s.deps.Traffic.InForce(ctx); err != nil {
		s.log.Warn("a rollout succeeded before its traffic was in force everywhere", "error", err)
	}
}

func reasonOf(r maru.Rollout) string {
	if r.Reason != "" {
		return r.Reason
	}
	var reasons []string
	for name, v := range r.Services {
		if v.Reason != "" {
			reasons = append(reasons, name+": "+v.Reason)
		}
	}
	if len(reasons) == 0 {
		return "no reason is known"
	}
	slices.Sort(reasons)
	return strings.Join(reasons, "; ")
}

// failureHint leads to the log of a service that has a reason.
func failureHint(r maru.Rollout) string {
	var names []string
	for name, v := range r.Services {
		if v.Reason != "" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "`maru events` tells what happened"
	}
	slices.Sort(names)
	return fmt.Sprintf("look at its log: maru logs --release %d %s", r.Services[names[0]].To, names[0])
}

// releaseOutput tells what the steps of a rollout print.
type releaseOutput struct {
	server  *Server
	to      *report
	started map[string]bool
	running sync.WaitGroup
}

// observe begins to read the output of each step that has begun.
func (o *releaseOutput) observe(ctx context.Context, r maru.Rollout) {
	for name, v := range r.Services {
		step := ""
		switch {
		case v.Phase == maru.Releasing:
			step = "release"
		case v.Phase == maru.Seeding:
			step = "seed"
		case v.After != "":
			step = "after"
		}
		if step == "" || o.started[name+"."+step] {
			continue
		}
		if o.started == nil {
			o.started = map[string]bool{}
		}
		o.started[name+"."+step] = true
		query := maru.LogQuery{
			Scope: r.Scope, Services: []string{name}, Release: maru.Itoa(v.To) + "." + step, Follow: true, Since: r.Started,
		}
		o.running.Go(func() { o.read(ctx, name, step, query) })
	}
}

func (o *releaseOutput) read(ctx context.Context, service, step string, query maru.LogQuery) {
	for entry, err := range o.server.deps.Logs.Logs(ctx, query) {
		if err != nil {
			return // the step's end is told by the rollout; its output stays in the log
		}
		o.to.step(&maruv1.Progress{Service: service, Step: step, State: "running", Log: entry.Line})
	}
}

func (o *releaseOutput) wait() { o.running.Wait() }
