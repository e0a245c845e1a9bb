package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// followStore keeps the view at the store's present state.
func (c *Controller) followStore(ctx context.Context) error {
	for {
		err := c.readStore(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.log.Warn("the state is read anew", "error", err)
		if !pause(ctx, c.cfg.Retry) {
			return nil
		}
	}
}

// readStore lists all, and takes changes until that fails.
func (c *Controller) readStore(ctx context.Context) error {
	var objects []maru.Object
	var base, newest maru.Revision
	for k, kind := range []string{KindApp, KindService, KindRelease, KindRollout} {
		list, revision, err := c.store.List(ctx, kind, "")
		if err != nil {
			return err
		}
		objects = append(objects, list...)
		if k == 0 || revision < base {
			base = revision
		}
		newest = max(newest, revision)
	}
	if err := c.view.load(objects, base, newest); err != nil {
		return err
	}
	for e, err := range c.store.Watch(ctx, base) {
		if err != nil {
			return err
		}
		if err := c.view.follow(e); err != nil {
			return err
		}
	}
	return maru.Errorf(maru.Unavailable, "the watch of the state ended")
}

// followEngine keeps the view at what the engine has. While the engine is away its last word stands.
func (c *Controller) followEngine(ctx context.Context) error {
	delay := c.cfg.Retry
	for {
		began := time.Now()
		err := c.watchEngine(ctx)
		c.view.lost()
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > c.cfg.RetryMax {
			delay = c.cfg.Retry
		}
		c.log.Warn("the engine is away; what is known of it stands", "error", err, "again", delay)
		if !pause(ctx, delay) {
			return nil
		}
		delay = min(2*delay, time.Second)
	}
}

// watchEngine takes observations until that fails. Those that replay what there is are taken as one.
func (c *Controller) watchEngine(ctx context.Context) error {
	replay := map[maru.WorkloadID]maru.Observation{}
	for o, err := range c.engine.Watch(ctx) {
		switch {
		case err != nil:
			return err
		case o.Synced:
			c.view.replay(replay)
			replay = nil
		case replay != nil && o.Gone:
			delete(replay, o.Workload)
		case replay != nil:
			replay[o.Workload] = o
		default:
			before := c.view.observe(o)
			c.notice(before, o)
			c.letGo(ctx, o)
		}
	}
	return maru.Errorf(maru.Unavailable, "the engine ended the watch")
}

// notice records the ends of instances.
func (c *Controller) notice(before, now maru.Observation) {
	ends := make(map[string]time.Time, len(before.Instances))
	for _, i := range before.Instances {
		if i.LastExit != nil {
			ends[i.ID] = i.LastExit.At
		}
	}
	for _, i := range now.Instances {
		if i.LastExit == nil || i.LastExit.At.Equal(ends[i.ID]) || i.Phase == maru.PhaseDone ||
			i.Phase == maru.PhaseDraining || i.Phase == maru.PhaseStopping {
			continue
		}
		c.event(crashed(now.Workload, i, c.view.container(now.Workload)))
		if i.Attempt >= crashLoop && !c.looping[i.ID] {
			c.looping[i.ID] = true
			c.event(loops(now.Workload, i, c.view.container(now.Workload)))
		}
	}
	still := make(map[string]bool, len(now.Instances))
	for _, i := range now.Instances {
		still[i.ID] = i.Attempt >= crashLoop
	}
	for _, i := range slices.Concat(before.Instances, now.Instances) {
		if !still[i.ID] {
			delete(c.looping, i.ID)
		}
	}
}

// crashLoop is how often an instance is started in a row until that it ends each time is told.
const crashLoop = 5

// loops is the event that an instance ends again and again.
func loops(id maru.WorkloadID, i maru.Instance, in maru.Container) maru.Event {
	e := crashed(id, i, in)
	e.Type = "instance-crash-loop"
	e.Message = fmt.Sprintf("%s ends again and again: %s", i.ID, strings.TrimPrefix(e.Message, i.ID+" "))
	return e
}

// container is what an instance of the workload runs in.
func (v *view) container(id maru.WorkloadID) maru.Container {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.apps[id.Scope]
	if a == nil {
		return maru.Container{}
	}
	number, _ := plan.ReleaseOf(id.Name)
	return a.releases[id.Service][number].Spec.Container
}

func crashed(id maru.WorkloadID, i maru.Instance, in maru.Container) maru.Event {
	number, _ := plan.ReleaseOf(id.Name)
	ended := i
	ended.Phase, ended.Ready = maru.PhaseFailed, false
	kind := "instance-crashed"
	if i.LastExit.Code == 0 && i.LastExit.Signal == "" {
		kind = "instance-ended"
	}
	return maru.Event{
		Time: i.LastExit.At, Scope: id.Scope, Service: id.Service, Release: number, Instance: i.ID,
		Type: kind, Message: fmt.Sprintf("%s %s", i.ID, plan.Why(i.LastExit.At, ended, in)),
	}
}

// letGo tells the engine that draining instances without an address of their own are out of use: no
// data plane knows them.
func (c *Controller) letGo(ctx context.Context, o maru.Observation) {
	drainer, ok := c.engine.(maru.Drainer)
	if !ok {
		return
	}
	for _, i := range o.Instances {
		if i.Phase != maru.PhaseDraining || i.Addresses.V4.IsValid() || i.Addresses.V6.IsValid() {
			continue
		}
		if err := drainer.Drained(ctx, i.ID); err != nil && ctx.Err() == nil {
			c.log.Warn("the engine was not told that an instance is out of use", "instance", i.ID, "error", err)
		}
	}
}
