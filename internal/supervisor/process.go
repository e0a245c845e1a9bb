package supervisor

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
)

const (
	markVariable = sockets.ProcessMark // NAME:RUN
	readyTimeout = 15 * time.Second
)

// process keeps one Spec running. Its run method owns all but the fields under mu.
type process struct {
	spec    Spec
	runDir  string
	held    *holder
	notify  *notifier
	log     *slog.Logger
	adopted *handle

	restarts chan chan error
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}
	demand   *demand

	mu      sync.Mutex
	current *handle
	since   time.Time
	restart int
}

func newProcess(spec Spec, runDir string, held *holder, notify *notifier, log *slog.Logger) *process {
	return &process{spec: spec, runDir: runDir, held: held, notify: notify, log: log,
		restarts: make(chan chan error), stop: make(chan struct{}), done: make(chan struct{})}
}

// end stops the process in good order and returns when it has ended.
func (p *process) end() {
	p.stopOnce.Do(func() { close(p.stop) })
	<-p.done
}

func (p *process) status() Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Process{Name: p.spec.Name, Restarts: p.restart, Since: p.since}
	if p.current != nil {
		s.PID, s.Ready, s.Version = p.current.pid(), p.current.isReady(), p.current.version()
	}
	return s
}

func (p *process) run() {
	defer close(p.done)
	next, wait := p.adopted, time.Duration(0)
	var pace pacing
	for {
		if next == nil {
			if !p.pause(wait) || !p.demanded() {
				return
			}
			started, err := p.start()
			if err != nil {
				wait = pace.after(time.Now(), false)
				p.log.Error("could not start", "error", err, "again in", wait)
				continue
			}
			next = started
		}
		p.set(next)
		select {
		case <-next.exited:
			p.set(nil)
			state, wasReady := next.state, next.isReady()
			next, wait = nil, 0
			if p.spec.OnDemand && state == "exit status 0" {
				continue
			}
			p.count()
			wait = pace.after(time.Now(), wasReady)
			p.log.Warn("process ended and is started again", "state", state, "in", wait)
		case reply := <-p.restarts:
			next, wait = p.replace(next), 0
			pace = pacing{}
			reply <- nil
		case <-p.stop:
			p.terminate(next, syscall.SIGINT)
			p.set(nil)
			return
		}
	}
}

// demanded blocks until the process should be started; false: it is to stop.
func (p *process) demanded() bool {
	if !p.spec.OnDemand {
		return true
	}
	if p.demand == nil {
		p.demand = newDemand(p.held.file(p.spec.Sockets[0]))
	}
	return p.demand.wait(p.stop, p.restarts)
}

// pause waits until it is over or a restart is asked for; false: the process is to stop.
func (p *process) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.stop: // also when there is no pause
		return false
	default:
	}
	select {
	case <-timer.C:
		return true
	case reply := <-p.restarts:
		reply <- nil
		return true
	case <-p.stop:
		return false
	}
}

// replace ends the running process and gives its successor, or nil when the loop is to start it.
func (p *process) replace(old *handle) *handle {
	if !p.spec.Overlap {
		p.terminate(old, syscall.SIGTERM)
		return nil
	}
	successor, err := p.start()
	if err != nil {
		p.log.Error("could not start the successor; the process goes on", "error", err)
		return old
	}
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-successor.ready:
	case <-successor.exited:
		p.log.Error("the successor ended before it was ready; the process goes on", "state", successor.state)
		return old
	case <-timer.C:
		p.log.Error("the successor did not become ready; the process goes on", "after", readyTimeout)
		p.terminate(successor, syscall.SIGTERM)
		return old
	}
	go p.terminate(old, syscall.SIGTERM)
	return successor
}

// terminate sends the signal, after the grace time SIGKILL, and returns when the process has ended. SIGINT
// says that nobody comes after it.
func (p *process) terminate(h *handle, s syscall.Signal) {
	grace := p.spec.Grace
	if grace == 0 {
		grace = 30 * time.Second
	}
	h.signal(s)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-h.exited:
		return
	case <-timer.C:
		p.log.Warn("process did not end in its grace time and is killed", "grace", grace)
	}
	h.signal(syscall.SIGKILL)
	<-h.exited
}

func (p *process) set(h *handle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current, p.since = h, time.Now()
}

func (p *process) count() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restart++
}

func (p *process) start() (*handle, error) {
	names, files := p.held.inherit(p.spec.Sockets)
	if p.spec.Folder != "" {
		folder, err := os.Open(p.spec.Folder)
		if err != nil {
			return nil, maru.Errorf(maru.Unavailable, "start %s: %w", p.spec.Name, err)
		}
		defer folder.Close()
		names, files = append(names, "folder"), append(files, folder)
	}
	cmd := exec.Command(p.spec.Command[0], p.spec.Command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	cmd.Env = slices.DeleteFunc(os.Environ(), isHandedOn)
	cmd.Env = append(cmd.Env, sockets.Environment(names)...)
	cmd.Env = append(cmd.Env, markVariable+"="+p.spec.Name+":"+p.runDir, "NOTIFY_SOCKET="+p.notify.path)
	// A group of its own: a ^C in the terminal ends the supervisor, which ends the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.spec.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.spec.UID), Gid: uint32(p.spec.GID)}
	}
	h, err := p.notify.start(func() (*handle, error) {
		if err := cmd.Start(); err != nil {
			return nil, maru.Errorf(maru.Internal, "start %s: %w", p.spec.Name, err)
		}
		return newHandle(cmd.Process.Pid), nil
	})
	if err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		p.notify.forget(h)
		h.end(cmd.ProcessState.String())
	}()
	return h, nil
}

func isHandedOn(variable string) bool {
	for _, name := range []string{"LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "NOTIFY_SOCKET=", markVariable + "="} {
		if len(variable) >= len(name) && variable[:len(name)] == name {
			return true
		}
	}
	return false
}

// askRestart has the loop replace the process; Interrupted when ctx ends before.
func (p *process) askRestart(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case p.restarts <- reply:
		return <-reply
	case <-p.done:
		return maru.Errorf(maru.Unavailable, "%s is stopping", p.spec.Name)
	case <-ctx.Done():
		return maru.Errorf(maru.Interrupted, "restart %s: %w", p.spec.Name, ctx.Err())
	}
}
