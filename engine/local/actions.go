package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/plan"
)

const (
	reapAttempts = 5
	reapPause    = 200 * time.Millisecond // doubles
	lastLines    = 10                     // of the log, in an Exit
)

// start begins the instance's next attempt, unless a volume that it writes was taken just now.
func (w *workload) start(t lifetime, inst *instance) (changed bool) {
	if !inst.rec.Holds {
		all := claimed(w.want)
		if !w.e.claims.take(all, w.id, inst.rec.ID) {
			return true
		}
		inst.rec.Holds = len(all) > 0
	}
	inst.rec.Attempt++
	inst.rec.Begun = time.Now().UTC()
	inst.rec.Started, inst.rec.Ended, inst.rec.Signaled, inst.killed = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	inst.rec.WasReady, inst.rec.ReadySince, inst.rec.Problem = false, time.Time{}, ""
	inst.ready, inst.unhealthy, inst.why = false, "", ""
	inst.version++
	container := containerID(inst.rec.ID, inst.rec.Attempt)
	want := w.want
	s := &start{
		e: w.e, log: w.log.With("instance", inst.rec.ID), workload: &want, rec: inst.rec, version: inst.version, file: inst.file,
		container: container, folder: attemptFolder(w.e.cfg.Layout, container),
	}
	w.spawn(inst, func() func() {
		a, err := s.run(t.work)
		return func() {
			inst.rec.Addresses, inst.rec.Users = s.addresses, s.rec.Users
			if err != nil {
				w.notStarted(t, inst, err)
				return
			}
			w.started(t, inst, a)
		}
	})
	return false
}

// started takes in that an attempt runs.
func (w *workload) started(t lifetime, inst *instance, a *attempt) {
	inst.state = plan.InstanceRunning
	inst.rec.Started = a.started.UTC()
	w.watch(t, inst, a)
	w.save(inst)
}

// notStarted takes in that an attempt could not be started.
func (w *workload) notStarted(t lifetime, inst *instance, err error) {
	if t.life.Err() != nil {
		return // the engine ends: the next one starts it
	}
	w.log.Warn("instance could not be started", "instance", inst.rec.ID, "attempt", inst.rec.Attempt, "error", err)
	now := time.Now().UTC()
	inst.state = plan.InstanceEnded
	inst.rec.Ended, inst.rec.Failed, inst.rec.Problem = now, true, err.Error()
	inst.rec.Ends = plan.CountEnds(w.want.Container.Restart, inst.rec.Ends, 0)
	if failure := (*startFailure)(nil); errors.As(err, &failure) {
		inst.rec.LastExit = &maru.Exit{Code: failure.code, At: now}
	}
	w.save(inst)
}

// ended takes in that the attempt's process has ended. An instance that is started again at once does
// not wait for what is left of the attempt to be removed; for all others the end of the log is known
// when they are told to have ended.
func (w *workload) ended(t lifetime, inst *instance, a *attempt, exit maru.Exit) {
	if inst.attempt != a {
		return
	}
	inst.unwatch()
	w.e.unregister(a)
	exit.Probe, exit.OutOfDisk = inst.unhealthy, a.overDisk.Load()
	inst.attempt, inst.unwatch, inst.ready, inst.dying = nil, nil, false, true
	inst.why = describeExit(exit, w.want.Container.Resources)
	inst.rec.Ended, inst.rec.LastExit = exit.At, &exit
	inst.rec.Failed = exit.Code != 0 || exit.Probe != ""
	inst.rec.Ends = plan.CountEnds(w.want.Container.Restart, inst.rec.Ends, exit.At.Sub(inst.rec.Started))
	level := slog.LevelInfo
	if inst.rec.Failed && inst.rec.Draining.IsZero() {
		level = slog.LevelWarn
	}
	w.log.Log(t.work, level, "instance ended", "instance", a.instance, "attempt", a.number,
		"code", exit.Code, "signal", exit.Signal, "out of memory", exit.OutOfMemory, "probe", exit.Probe)
	restart := w.want.Container.Restart
	atOnce := inst.rec.Draining.IsZero() && plan.RestartsAfter(w.want.Kind, restart, inst.rec.Failed, inst.rec.Ends) &&
		plan.RestartDelay(restart, a.instance, inst.rec.Ends, w.e.seed) == 0
	if atOnce {
		inst.dying, inst.state = false, plan.InstanceEnded
	}
	w.reap(t, inst, a, func(lines []string) {
		if !atOnce {
			inst.dying, inst.state = false, plan.InstanceEnded
		}
		w.addLastLines(inst, a.number, lines)
	})
}

// reap removes what is left of an attempt, and then tells the end of its log. That the attempt ended
// is on disk before: without its container nobody could tell whether it ever ran.
func (w *workload) reap(t lifetime, inst *instance, a *attempt, then func(lines []string)) {
	inst.version++
	version, rec := inst.version, inst.rec
	inst.reaps.Add(1)
	w.actions.Go(func() {
		defer inst.reaps.Done()
		err := retry(t.work, func() error {
			if err := inst.file.save(version, rec); err != nil {
				return err
			}
			return w.e.reap(t.work, a.container)
		})
		if err != nil {
			w.log.Error("remove what is left of an attempt", "container", a.container, "error", err)
			w.e.leave(a.container)
		}
		lines, err := w.e.logs.LastLines(w.id, a.instance, a.number, lastLines)
		if err != nil {
			w.log.Warn("read end of log", "container", a.container, "error", err)
		}
		w.mail.post(func() { then(lines) })
	})
}

// addLastLines completes what is known of the last exit, if that was of this attempt.
func (w *workload) addLastLines(inst *instance, attempt int, lines []string) {
	current := inst.rec.Attempt == attempt || inst.rec.Attempt == attempt+1 && inst.rec.Ended.IsZero()
	if len(lines) == 0 || inst.rec.LastExit == nil || !current {
		return
	}
	exit := *inst.rec.LastExit
	exit.LastLines = lines
	inst.rec.LastExit = &exit
	w.save(inst)
}

// retry calls f until it succeeds, a few times.
func retry(ctx context.Context, f func() error) (err error) {
	pause := reapPause
	for range reapAttempts {
		if err = f(); err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return err
		}
	}
	return err
}

func (w *workload) signal(t lifetime, inst *instance, number unix.Signal) {
	a := inst.attempt
	w.spawn(inst, func() func() {
		err := a.signal(t.work, number)
		return func() {
			if err != nil {
				w.log.Error("signal instance", "instance", a.instance, "error", err)
			}
		}
	})
}

// delete removes all that is left of an instance.
func (w *workload) delete(t lifetime, inst *instance) {
	id, addresses, users := inst.rec.ID, inst.rec.Addresses, inst.rec.Users
	w.spawn(inst, func() func() {
		inst.reaps.Wait()
		err := retry(t.work, func() error { return w.e.deleteInstance(t.work, id, addresses) })
		if err == nil {
			err = inst.file.forget()
		}
		return func() {
			if err != nil {
				w.log.Error("delete instance", "instance", id, "error", err)
				return
			}
			delete(w.instances, id)
			w.e.claims.free(id)
			w.e.ranges.free(users)
		}
	})
}

// deleteInstance removes the network and the anonymous volumes of an instance.
func (e *Engine) deleteInstance(ctx context.Context, id string, addresses maru.Addresses) error {
	crash.Point("engine.network.detach.before")
	if err := e.network.Detach(ctx, id); err != nil {
		return err
	}
	crash.Point("engine.network.detach.after")
	if addresses.V4.IsValid() && addresses != e.cfg.Ranges.Host() {
		e.network.Release(addresses)
	}
	return e.volumes.RemoveAnonymous(id)
}

// stopSignal is the container's, else the image's, else SIGTERM.
func stopSignal(w maru.Workload, a *attempt) unix.Signal {
	for _, name := range []string{w.Container.Stop.Signal, a.image.config.StopSignal} {
		if number, err := parseSignal(name); err == nil {
			return number
		}
	}
	return unix.SIGTERM
}

// parseSignal reads SIGTERM, TERM, 15 and SIGRTMIN+3.
func parseSignal(name string) (unix.Signal, error) {
	const first, last = 1, 64
	if number, err := strconv.Atoi(name); err == nil && number >= first && number <= last {
		return unix.Signal(number), nil
	}
	full := "SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if number := unix.SignalNum(full); number != 0 {
		return number, nil
	}
	const realtimeFirst, realtimeLast = 34, 64
	for prefix, base := range map[string]int{"SIGRTMIN": realtimeFirst, "SIGRTMAX": realtimeLast} {
		rest, found := strings.CutPrefix(full, prefix)
		if !found {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if number := base + offset; number >= realtimeFirst && number <= realtimeLast {
			return unix.Signal(number), nil
		}
	}
	return 0, maru.Errorf(maru.Invalid, "there is no signal %q", name)
}

// signalName is the name of a signal that ended a process.
func signalName(number int) string {
	if name := unix.SignalName(unix.Signal(number)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", number)
}
