// Package container is the machine whose jobs run in containers of Maru's engine. Each job has a scope
// of its own with a network of its own: it reaches its services and the world, and no app. Nothing of
// the host is given to it.
package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// Where things are in a job's container.
const (
	workspace = "/maru/workspace"
	temporary = "/maru/temp"
	rootHome  = "/root"
	userHome  = "/maru/home" // of who is not root
)

// Traffic tells the data planes who reaches whom.
type Traffic interface {
	Set(services ...maru.ServiceTraffic) uint64
	Remove(ids ...maru.ServiceID) uint64
	// InForce waits until every data plane has in force what has been set so far.
	InForce(ctx context.Context) error
}

// Parts are what a machine is made of.
type Parts struct {
	Engine  maru.Engine
	Execer  maru.Execer
	Images  maru.Images
	Traffic Traffic
}

// Config is tuning. The zero value is the documented default.
type Config struct {
	CPUs        float64       // of a container that says nothing; default 2
	Memory      int64         // likewise, bytes; default 4 GiB
	PIDs        int64         // default 4096
	Disk        int64         // what a container may write, bytes; default 10 GiB
	MaxCPUs     float64       // that a workflow can ask for; default 8
	MaxMemory   int64         // likewise, bytes; default 16 GiB
	ReadyWithin time.Duration // for a service to become healthy; default 5 minutes
}

func (c Config) withDefaults() Config {
	c.CPUs, c.Memory, c.PIDs = cmp.Or(c.CPUs, 2), cmp.Or(c.Memory, 4<<30), cmp.Or(c.PIDs, 4096)
	c.Disk = cmp.Or(c.Disk, 10<<30)
	c.MaxCPUs, c.MaxMemory = cmp.Or(c.MaxCPUs, 8), cmp.Or(c.MaxMemory, 16<<30)
	c.ReadyWithin = cmp.Or(c.ReadyWithin, 5*time.Minute)
	return c
}

// Machine implements [machine.Machine].
type Machine struct {
	parts  Parts
	cfg    Config
	looked sync.Map // machine.Tools by reference of the image, which never changes
}

// New makes a machine.
func New(parts Parts, cfg Config) *Machine { return &Machine{parts: parts, cfg: cfg.withDefaults()} }

// isRoot tells whether a user as images and options name it is root.
func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

// job is a job's container with its services.
type job struct {
	*Machine
	scope     maru.Scope
	home      string
	instance  string
	tools     machine.Tools
	spec      machine.Spec
	hosts     []maru.HostEntry // the services' names
	actions   int              // containers of actions so far
	workloads []maru.WorkloadID
	told      []maru.ServiceID // whose traffic was set

	removing sync.Mutex
	removed  bool
}

// jobService is the name of the job's own workload among its services.
const jobService = "job"

// Start implements [machine.Machine].
func (m *Machine) Start(ctx context.Context, spec machine.Spec) (_ machine.Container, err error) {
	j := &job{Machine: m, scope: maru.Scope{Project: maru.JobsProject, Environment: "jobs", App: spec.ID}, home: rootHome, spec: spec}
	if !isRoot(spec.User) {
		j.home = userHome
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, j.Remove(ctx))
		}
	}()
	images, err := m.images(ctx, spec)
	if err != nil {
		return nil, err
	}
	reach, err := j.startServices(ctx, spec, images[1:])
	if err != nil {
		return nil, err
	}
	w := j.jobWorkload(spec, images[0], reach)
	j.workloads = append(j.workloads, w.ID)
	if err := m.parts.Engine.Apply(ctx, w); err != nil {
		return nil, fmt.Errorf("start the job's container: %w", err)
	}
	running, err := j.await(ctx, []maru.WorkloadID{w.ID}, false)
	if err != nil {
		return nil, fmt.Errorf("start the job's container: %w", err)
	}
	instance := running[w.ID]
	j.instance = instance.ID
	j.tell(w, instance)
	if err := m.parts.Traffic.InForce(ctx); err != nil {
		return nil, err
	}
	return j, j.prepare(ctx, spec, images[0])
}

// Fetch has images at hand for jobs to come.
func (m *Machine) Fetch(ctx context.Context, references []string, progress func(string)) error {
	spec := machine.Spec{Progress: progress}
	for _, reference := range references {
		spec.Services = append(spec.Services, machine.Service{Image: machine.Image{Reference: reference}})
	}
	if len(references) > 0 {
		spec.Image, spec.Services = spec.Services[0].Image, spec.Services[1:]
		_, err := m.images(ctx, spec)
		return err
	}
	return nil
}

// images gives the references of the job's image and its services', which are pulled if need be.
func (m *Machine) images(ctx context.Context, spec machine.Spec) ([]string, error) {
	wanted := []machine.Image{spec.Image}
	for _, s := range spec.Services {
		wanted = append(wanted, s.Image)
	}
	var all []string
	for _, want := range wanted {
		image, err := m.parts.Images.Image(ctx, want.Reference)
		if maru.KindOf(err) == maru.NotFound {
			spec.Say("pulling %s", want.Reference)
			image, err = m.parts.Images.Pull(ctx, want.Reference, maru.PullOptions{Username: want.Username, Password: want.Password}, nil)
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", want.Reference, err)
		}
		all = append(all, image.Reference)
	}
	return all, nil
}

// reached is a service as the job reaches it.
type reached struct {
	service   machine.Service
	addresses maru.Addresses
}

// startServices starts the services and waits until they are healthy.
func (j *job) startServices(ctx context.Context, spec machine.Spec, images []string) ([]reached, error) {
	if len(spec.Services) == 0 {
		return nil, nil
	}
	var ids []maru.WorkloadID
	workloads := map[maru.WorkloadID]maru.Workload{}
	for i, s := range spec.Services {
		spec.Say("starting service %s (%s)", s.Name, s.Image.Reference)
		w := j.serviceWorkload(i, s, images[i])
		j.workloads = append(j.workloads, w.ID)
		ids = append(ids, w.ID)
		workloads[w.ID] = w
		if err := j.parts.Engine.Apply(ctx, w); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	within, cancel := context.WithTimeoutCause(ctx, j.cfg.ReadyWithin, maru.Errorf(maru.Invalid, "not healthy in %s", j.cfg.ReadyWithin))
	defer cancel()
	ready, err := j.await(within, ids, true)
	if err != nil {
		return nil, j.explain(ids, spec.Services, err)
	}
	var all []reached
	for i, id := range ids {
		j.tell(workloads[id], ready[id])
		all = append(all, reached{spec.Services[i], ready[id].Addresses})
	}
	return all, nil
}

// notStarted is the error of a workload whose instance ended, or is not ready.
type notStarted struct {
	id  maru.WorkloadID
	why string
}

func (e *notStarted) Error() string { return e.why }

// explain says which service it is that did not start.
func (j *job) explain(ids []maru.WorkloadID, services []machine.Service, err error) error {
	var failure *notStarted
	if errors.As(err, &failure) {
		if i := slices.Index(ids, failure.id); i >= 0 {
			return maru.WithHint(maru.Errorf(maru.Invalid, "service %s: %w", services[i].Name, err), "see that its image, env and options are right")
		}
	}
	return fmt.Errorf("services: %w", err)
}

// await waits until an instance of each workload runs, or is ready, and gives them.
func (j *job) await(ctx context.Context, ids []maru.WorkloadID, ready bool) (map[maru.WorkloadID]maru.Instance, error) {
	found := map[maru.WorkloadID]maru.Instance{}
	waiting := map[maru.WorkloadID]string{}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for o, err := range j.parts.Engine.Watch(watching) {
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return nil, err
		}
		if !slices.Contains(ids, o.Workload) {
			continue
		}
		for _, i := range o.Instances {
			switch {
			case i.Phase == maru.PhaseFailed || i.Phase == maru.PhaseDone || i.Phase == maru.PhaseBackoff:
				return nil, &notStarted{o.Workload, ended(i)}
			case i.Phase == maru.PhaseRunning && (i.Ready || !ready):
				found[o.Workload] = i
			default:
				waiting[o.Workload] = i.Message
				delete(found, o.Workload)
			}
		}
		if len(found) == len(ids) {
			return found, nil
		}
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			return nil, &notStarted{id, strings.TrimSpace(fmt.Sprintf("%v: %s", context.Cause(ctx), waiting[id]))}
		}
	}
	return nil, context.Cause(ctx)
}

// ended says how an instance ended.
func ended(i maru.Instance) string {
	why := "it ended"
	if i.LastExit != nil {
		why = fmt.Sprintf("it ended with exit code %d", i.LastExit.Code)
		if i.LastExit.OutOfMemory {
			why += ", out of memory"
		}
		if len(i.LastExit.LastLines) > 0 {
			why += ":\n" + strings.Join(i.LastExit.LastLines, "\n")
		}
	} else if i.Message != "" {
		why += ": " + i.Message
	}
	return why
}

// tell has the data planes let the job and its services reach each other.
func (j *job) tell(w maru.Workload, i maru.Instance) {
	j.told = append(j.told, w.ID.ServiceID)
	j.parts.Traffic.Set(maru.ServiceTraffic{
		Service: w.ID.ServiceID, DNSRoundRobin: true, Ports: w.Ports,
		Networks:  map[string][]string{w.Networks[0].String(): {w.ID.Service}},
		Endpoints: []maru.Endpoint{{Instance: i.ID, Release: 1, Addresses: i.Addresses, Ready: true}},
	})
}

// prepare looks what the job's image has, once for each, and gives the job's folders to its user.
func (j *job) prepare(ctx context.Context, spec machine.Spec, image string) error {
	known, ok := j.looked.Load(image)
	if j.tools, _ = known.(machine.Tools); ok && isRoot(spec.User) {
		return nil
	}
	var found, complaint strings.Builder
	code, err := j.parts.Execer.Exec(ctx, j.instance, maru.ExecCommand{User: "0:0", Dir: "/", Args: []string{
		"sh", "-c", `umask 0; mkdir -p "$1" "$2" "$3" || exit; chown "$4" "$1" "$2" "$3" || :; ` + machine.Look,
		"sh", workspace, temporary, j.home, cmp.Or(spec.User, "0"),
	}}, nil, &found, &complaint)
	switch {
	case code == 127 || code == 126:
		return machine.NoShell(spec.Image.Reference)
	case err != nil:
		return err
	case code != 0:
		return maru.Errorf(maru.Invalid, "prepare the container: %s", strings.TrimSpace(complaint.String()))
	}
	if j.tools, err = machine.ParseTools(found.String()); err == nil {
		j.looked.Store(image, j.tools)
	}
	return err
}

// Tools implements [machine.Container].
func (j *job) Tools() machine.Tools { return j.tools }

// Paths implements [machine.Container].
func (j *job) Paths() machine.Paths {
	return machine.Paths{Workspace: workspace, Temp: temporary, Home: j.home}
}

// Exec implements [machine.Container].
func (j *job) Exec(ctx context.Context, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if cmd.Dir == "" {
		cmd.Dir = workspace
	}
	return j.execIn(ctx, j.instance, cmd, stdin, stdout, stderr)
}

func (j *job) execIn(ctx context.Context, instance string, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	cmd.Alone = true
	code, err := j.parts.Execer.Exec(ctx, instance, cmd, stdin, stdout, stderr)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil || code == 128+9 {
		err = errors.Join(j.why(ctx, instance), err)
	}
	return code, err
}

// endSeen is how long it may take until the engine tells that the container ended whose process was killed.
const endSeen = 3 * time.Second

// why tells why a container of the job ended; nil when it runs on.
func (j *job) why(ctx context.Context, instance string) error {
	watching, stop := context.WithTimeout(ctx, endSeen)
	defer stop()
	for o, err := range j.parts.Engine.Watch(watching) {
		if err != nil {
			return nil //nolint:nilerr // who can't be asked says nothing
		}
		for _, i := range o.Instances {
			if i.ID == instance && i.Phase != maru.PhaseRunning && i.Message != "" {
				return maru.Errorf(maru.Exhausted, "the job's container %s", i.Message)
			}
		}
	}
	return nil
}

// Remove implements [machine.Container].
func (j *job) Remove(ctx context.Context) error {
	j.removing.Lock()
	defer j.removing.Unlock()
	if j.removed {
		return nil
	}
	var err error
	for _, id := range j.workloads {
		err = errors.Join(err, j.parts.Engine.Remove(ctx, id))
	}
	j.parts.Traffic.Remove(j.told...)
	if err == nil {
		err = j.gone(ctx, func(id maru.WorkloadID) bool { return slices.Contains(j.workloads, id) })
	}
	j.removed = err == nil
	return err
}

// gone waits until nothing is left of some workloads, and tells that draining ones may stop at once.
func (m *Machine) gone(ctx context.Context, of func(maru.WorkloadID) bool) error {
	left := map[maru.WorkloadID]bool{}
	synced := false
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for o, err := range m.parts.Engine.Watch(watching) {
		switch {
		case err != nil:
			return err
		case o.Synced:
			synced = true
		case !of(o.Workload):
			continue
		case o.Gone:
			delete(left, o.Workload)
		default:
			left[o.Workload] = true
			for _, i := range o.Instances {
				if d, ok := m.parts.Engine.(maru.Drainer); ok && i.Phase == maru.PhaseDraining {
					_ = d.Drained(ctx, i.ID) // it would stop a second later
				}
			}
		}
		if synced && len(left) == 0 {
			return nil
		}
	}
	return context.Cause(ctx)
}

// Sweep implements [machine.Machine].
func (m *Machine) Sweep(ctx context.Context) error {
	var ids []maru.WorkloadID
	watching, stop := context.WithCancel(ctx)
	defer stop()
	for o, err := range m.parts.Engine.Watch(watching) {
		if err != nil {
			return err
		}
		if o.Synced {
			break
		}
		if o.Workload.Project == maru.JobsProject && !o.Gone {
			ids = append(ids, o.Workload)
		}
	}
	for _, id := range ids {
		if err := m.parts.Engine.Remove(ctx, id); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return m.gone(ctx, func(id maru.WorkloadID) bool { return slices.Contains(ids, id) })
}
