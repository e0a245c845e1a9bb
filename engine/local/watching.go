package local

import (
	"context"
	"net/netip"
	"slices"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/probe"
)

// watch follows a running attempt: its end, its probes, and once what its ports speak.
func (w *workload) watch(t lifetime, inst *instance, a *attempt) {
	ctx, cancel := context.WithCancel(t.life)
	inst.attempt, inst.unwatch = a, cancel
	w.e.register(w, a)
	w.actions.Go(func() {
		select {
		case <-t.life.Done():
		case status := <-a.exit:
			exit := w.e.readExit(a, status)
			w.mail.post(func() { w.ended(t, inst, a, exit) })
		}
	})
	if w.want.Held {
		w.actions.Go(func() { a.hold(ctx) })
	}
	watcher, ask := w.watcher(inst, a)
	if !ask {
		w.readiness(t, inst, a, true, "")
		return
	}
	watcher.Changed = func(ready bool, why string) {
		w.mail.post(func() { w.readiness(t, inst, a, ready, why) })
	}
	watcher.Failed = func(answer string) {
		w.mail.post(func() { w.unhealthy(inst, a, answer) })
	}
	if inst.ready {
		w.recognize(t, inst, a)
	}
	w.actions.Go(func() { watcher.Run(ctx) })
	if w.want.Container.Probes.Ready == nil && !watcher.Once {
		w.readiness(t, inst, a, true, "")
	}
}

// assumedPatience is how long a port is waited for that only the image names. Programs that take long to
// listen do so by then; one that was configured to listen on none is not held up for ever.
const assumedPatience = time.Minute

// watcher says what to ask of an attempt. Without a readiness probe an instance is ready as soon as
// the first declared TCP port accepts a connection, or at once if there is none.
func (w *workload) watcher(inst *instance, a *attempt) (probe.Watcher, bool) {
	target := probe.Target{Address: probeAddress(a), Ports: tcpPorts(w.want.Ports)}
	if len(target.Ports) > 0 {
		target.Port = target.Ports[0]
	} else {
		target.Ports = tcpPorts(a.image.config.Ports)
	}
	target.Exec = func(ctx context.Context, args []string) (int, string, error) { return w.e.execProbe(ctx, a, args) }
	watcher := probe.Watcher{Probes: w.want.Container.Probes, Target: target, Started: a.started, Ready: inst.ready}
	if watcher.Probes.Ready == nil && target.Port != 0 && w.want.Kind != maru.Job {
		watcher.Probes.Ready, watcher.Once = &maru.Probe{TCP: target.Port}, true
		if assumed(w.want.Ports, target.Port) {
			watcher.Patience = assumedPatience
		}
	}
	return watcher, watcher.Probes.Ready != nil || watcher.Probes.Live != nil
}

func probeAddress(a *attempt) netip.Addr {
	if a.workload.Container.Host.HostNetwork {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return a.addresses.V4
}

// assumed tells whether only the image names the port.
func assumed(ports []maru.Port, port uint16) bool {
	return slices.ContainsFunc(ports, func(p maru.Port) bool { return p.Port == port && p.Assumed && p.Protocol != maru.UDP })
}

func tcpPorts(ports []maru.Port) []uint16 {
	var found []uint16
	for _, port := range ports {
		if port.Protocol == maru.TCP || port.Protocol == "" {
			found = append(found, port.Port)
		}
	}
	return found
}

// readiness takes in a change of readiness, unless it is of an attempt before or of one that is to go.
func (w *workload) readiness(t lifetime, inst *instance, a *attempt, ready bool, why string) {
	if inst.attempt != a || !inst.rec.Draining.IsZero() || !inst.rec.Signaled.IsZero() {
		return
	}
	inst.why = why
	if inst.ready == ready {
		return
	}
	inst.ready = ready
	inst.rec.ReadySince = time.Time{}
	if ready {
		inst.rec.ReadySince, inst.rec.WasReady = time.Now().UTC(), true
		w.recognize(t, inst, a)
	}
	w.save(inst)
}

// recognize finds out what the declared ports speak for which that is not said.
func (w *workload) recognize(t lifetime, inst *instance, a *attempt) {
	if inst.rec.Protocols != nil {
		return
	}
	var unknown []uint16
	for _, port := range w.want.Ports {
		if port.App == "" && (port.Protocol == maru.TCP || port.Protocol == "") {
			unknown = append(unknown, port.Port)
		}
	}
	if len(unknown) == 0 {
		return
	}
	w.actions.Go(func() {
		protocols := make(map[uint16]string, len(unknown))
		for _, port := range unknown {
			protocols[port] = probe.Recognize(t.life, netip.AddrPortFrom(probeAddress(a), port))
		}
		if t.life.Err() != nil {
			return
		}
		w.mail.post(func() {
			if inst.attempt == a {
				inst.rec.Protocols = protocols
				w.save(inst)
			}
		})
	})
}

func (w *workload) unhealthy(inst *instance, a *attempt, answer string) {
	if inst.attempt != a || !inst.rec.Draining.IsZero() {
		return
	}
	w.log.Warn("instance fails its liveness probe", "instance", a.instance, "answer", answer)
	inst.unhealthy = answer
	inst.ready = false
	inst.why = answer
}

// readExit tells how an attempt ended.
func (e *Engine) readExit(a *attempt, status containerd.ExitStatus) maru.Exit {
	if err := status.Error(); err != nil {
		// The shim is gone, which says nothing of what it watched over.
		e.log.Warn("the shim of an instance is gone", "instance", a.instance, "error", err)
		if err := e.cgroups.Kill(a.cgroup); err != nil {
			e.log.Error("end what is left of an instance", "instance", a.instance, "error", err)
		}
		return maru.Exit{Code: unknownExit, At: time.Now().UTC()}
	}
	return e.newExit(a.cgroup, int(status.ExitCode()), status.ExitTime())
}

// newExit interprets an exit code as shells do, and asks the cgroup whether memory was the reason.
func (e *Engine) newExit(cgroup string, code int, at time.Time) maru.Exit {
	const signalBase = 128
	if at.IsZero() {
		at = time.Now()
	}
	exit := maru.Exit{Code: code, At: at.UTC()}
	if code > signalBase && code < signalBase+65 {
		exit.Signal = signalName(code - signalBase)
	}
	exit.OutOfMemory = code != 0 && e.cgroups.OOMKills(cgroup) > 0
	return exit
}
