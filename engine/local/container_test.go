package local_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
)

// startOne applies a workload, waits until its only instance is ready and gives it.
func startOne(t testing.TB, e maru.Engine, w maru.Workload) maru.Instance {
	t.Helper()
	apply(t, e, w)
	return observe(t, e, w.ID, "ready", ready).Instances[0]
}

// hardLimit finds the limit of open files; Go programs raise the soft limit to the hard one.
var hardLimit = regexp.MustCompile(`(?m)^Max open files +\d+ +200 `)

func TestContainer(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	image := loadImage(t, e, func(c *v1.Config) { c.User, c.WorkingDir = "web", "/tmp" })

	t.Run("AsTheImageSays", func(t *testing.T) {
		id := startOne(t, e, newWorkload("image", "1", image)).ID
		for _, c := range []struct{ args, want string }{
			{"id", "1000 1001 [2000]"},
			{"pwd", "/tmp"},
			{"hostname", id},
			{"stat /etc/hosts", "644 0 0"},
		} {
			got := run(t, e, id, strings.Fields(c.args)...)
			if got != c.want {
				t.Errorf("%s: %q, want %q", c.args, got, c.want)
			}
		}
		env := strings.Split(run(t, e, id, "env"), "\n")
		for _, want := range []string{"PATH=/", "FROM_IMAGE=yes", "HOSTNAME=" + id} {
			if !slices.Contains(env, want) {
				t.Errorf("environment %q lacks %q", env, want)
			}
		}
		if resolv := run(t, e, id, "cat", "/etc/resolv.conf"); !strings.Contains(resolv, "search app.internal") || !strings.Contains(resolv, "ndots:0") {
			t.Errorf("resolv.conf: %s", resolv)
		}
	})

	t.Run("AsTheWorkloadSays", func(t *testing.T) {
		w := newWorkload("changed", "1", image)
		w.Container = maru.Container{
			Entrypoint: []string{"/program"}, Command: []string{"serve"}, Env: map[string]string{"FROM_IMAGE": "no", "MORE": "x=y"},
			WorkDir: "/made/for/this", User: "1234:5678", Groups: []string{"more", "42"}, Hostname: "called", Init: true, ReadOnly: true,
			ExtraHosts: []maru.HostEntry{{Name: "gate", Address: "host-gateway"}, {Name: "far", Address: "192.0.2.7"}},
			Mounts:     []maru.Mount{{Kind: maru.TmpfsMount, Target: "/scratch", Size: 1 << 20}},
			Sysctls:    map[string]string{"net.core.somaxconn": "77"},
			Ulimits:    []maru.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}},
			ShmSize:    2 << 20, OOMScoreAdj: 500,
		}
		id := startOne(t, e, w).ID
		if got := run(t, e, id, "id"); got != "1234 5678 [42 3000]" {
			t.Errorf("id: %q", got)
		}
		if got := run(t, e, id, "pwd"); got != "/made/for/this" {
			t.Errorf("pwd: %q", got)
		}
		hosts := run(t, e, id, "cat", "/etc/hosts")
		for _, want := range []string{"\tgate\n", "192.0.2.7\tfar", "\tcalled "} {
			if !strings.Contains(hosts, want) {
				t.Errorf("hosts lacks %q:\n%s", want, hosts)
			}
		}
		env := strings.Split(run(t, e, id, "env"), "\n")
		if !slices.Contains(env, "FROM_IMAGE=no") || !slices.Contains(env, "MORE=x=y") {
			t.Errorf("environment %q", env)
		}
		if got := run(t, e, id, "cat", "/proc/1/cmdline"); got != "/dev/init\x00/program\x00serve\x00" {
			t.Errorf("process 1 is %q", got)
		}
		if got := run(t, e, id, "cat", "/proc/sys/net/core/somaxconn"); got != "77" {
			t.Errorf("somaxconn %q", got)
		}
		if got := run(t, e, id, "cat", "/proc/1/limits"); !hardLimit.MatchString(got) {
			t.Errorf("limits:\n%s", got)
		}
		if got := run(t, e, id, "cat", "/proc/1/oom_score_adj"); got != "500" {
			t.Errorf("OOM score %s", got)
		}
		run(t, e, id, "write", "/scratch/x", "y")
		if code, out, err := tryRun(t, e, id, "write", "/x", "y"); code == 0 || err != nil || !strings.Contains(out, "read-only") {
			t.Errorf("write to the root file system: code %d, %q, %v", code, out, err)
		}
	})

	t.Run("Hardened", func(t *testing.T) {
		w := newWorkload("hard", "1", image)
		w.Container.User = "0"
		id := startOne(t, e, w).ID
		status := run(t, e, id, "cat", "/proc/1/status")
		for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t00000000a80405fb" /* Docker's is a80425fb */, "CapInh:\t0000000000000000"} {
			if !strings.Contains(status, want) {
				t.Errorf("status lacks %q:\n%s", want, status)
			}
		}
		if code, _, err := tryRun(t, e, id, "mount"); code == 0 || err != nil {
			t.Errorf("mount: code %d, %v", code, err)
		}
		if got := run(t, e, id, "cat", "/proc/kcore", "/proc/keys"); got != "" {
			t.Errorf("masked files have content: %q", got)
		}
		if code, _, err := tryRun(t, e, id, "write", "/proc/sys/kernel/domainname", "x"); code == 0 || err != nil {
			t.Errorf("write to /proc/sys: code %d, %v", code, err)
		}
		if got := run(t, e, id, "cat", "/proc/1/cgroup"); strings.Contains(got, "hard-1") {
			t.Errorf("it sees its cgroup: %s", got)
		}
	})

	t.Run("Privileged", func(t *testing.T) {
		w := newWorkload("strong", "1", image)
		w.Container.User, w.Container.Host.Privileged = "0", true
		id := startOne(t, e, w).ID
		run(t, e, id, "mount")
	})

	t.Run("Capabilities", func(t *testing.T) {
		w := newWorkload("caps", "1", image)
		w.Container.User = "0"
		w.Container.Host.CapAdd, w.Container.Host.CapDrop = []string{"NET_ADMIN"}, []string{"ALL"}
		id := startOne(t, e, w).ID
		if status := run(t, e, id, "cat", "/proc/1/status"); !strings.Contains(status, "CapEff:\t0000000000001000") {
			t.Errorf("status:\n%s", status)
		}
	})

	t.Run("Limits", func(t *testing.T) {
		w := newWorkload("limits", "1", image)
		w.Container.Resources = maru.Resources{Memory: 64 << 20, CPUs: 0.5, PIDs: 20}
		instance := startOne(t, e, w)
		files := []string{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"}
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			files = []string{"/sys/fs/cgroup/cpu.max"}
		}
		if limit := strings.Fields(run(t, e, instance.ID, append([]string{"cat"}, files...)...)); !slices.Equal(limit, []string{"50000", "100000"}) {
			t.Errorf("it may use %v microseconds of the processor", limit)
		}
		if out := run(t, e, instance.ID, "fork", "50"); out == "50" {
			t.Error("it started 50 processes under a limit of 20")
		}
		used := usageOf(t, e, instance.ID)
		if used.MemoryLimit != 64<<20 || used.CPU <= 0 || used.Memory <= 0 || used.PIDs < 2 {
			t.Errorf("usage %+v", used)
		}
	})
}

func usageOf(t testing.TB, e maru.Meter, instance string) maru.Usage {
	t.Helper()
	all, err := e.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(u maru.Usage) bool { return u.Instance == instance })
	if i < 0 {
		t.Fatalf("no usage of %s", instance)
	}
	return all[i]
}

func TestEnds(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	image := loadImage(t, e, nil)

	t.Run("OutOfMemory", func(t *testing.T) {
		w := newWorkload("hungry", "1", image)
		w.Container.Resources.Memory = 32 << 20
		w.Container.Restart.Policy = maru.RestartNever
		instance := startOne(t, e, w)
		if _, err := get("http://" + instance.Addresses.V4.String() + ":8080/eat"); err == nil {
			t.Error("it ate 1 GiB")
		}
		o := observe(t, e, w.ID, "failed", func(o maru.Observation) bool { return o.Instances[0].Phase == maru.PhaseFailed })
		exit := o.Instances[0].LastExit
		if !exit.OutOfMemory || exit.Signal != "SIGKILL" || o.Instances[0].Message != "was killed for going over its memory limit of 32 MiB" {
			t.Errorf("%+v: %q", exit, o.Instances[0].Message)
		}
	})

	t.Run("Liveness", func(t *testing.T) {
		w := newWorkload("sick", "1", image)
		health := maru.Probe{HTTP: &maru.HTTPProbe{Path: "/healthz"}, Interval: 20 * time.Millisecond, Failures: 2}
		w.Container.Probes = maru.Probes{Ready: &health, Live: &health}
		instance := startOne(t, e, w)
		run(t, e, instance.ID, "write", "/tmp/sick", "very")
		o := observe(t, e, w.ID, "restarted", func(o maru.Observation) bool { return ready(o) && o.Instances[0].Attempt == 2 })
		const answer = "GET /healthz on port 8080 answered 503: not feeling well"
		if exit := o.Instances[0].LastExit; exit == nil || exit.Probe != answer {
			t.Errorf("%+v", exit)
		}
	})

	t.Run("Readiness", func(t *testing.T) {
		w := newWorkload("moody", "1", image)
		w.Container.Probes.Ready = &maru.Probe{HTTP: &maru.HTTPProbe{Path: "/healthz"}, Interval: 20 * time.Millisecond, Failures: 2}
		instance := startOne(t, e, w)
		run(t, e, instance.ID, "write", "/tmp/sick", "a bit")
		o := observe(t, e, w.ID, "not ready", func(o maru.Observation) bool { return !o.Instances[0].Ready })
		if o.Instances[0].Phase != maru.PhaseRunning || !strings.Contains(o.Instances[0].Message, "answered 503") {
			t.Errorf("%s", maru.Raw(o))
		}
	})

	t.Run("ExecProbe", func(t *testing.T) {
		w := newWorkload("asked", "1", image)
		w.Container.Probes.Ready = &maru.Probe{Exec: []string{"/program", "cat", "/tmp/go"}, Interval: 50 * time.Millisecond}
		apply(t, e, w)
		o := observe(t, e, w.ID, "asked", func(o maru.Observation) bool {
			return len(o.Instances) == 1 && strings.Contains(o.Instances[0].Message, "exited with code 1: open /tmp/go")
		})
		run(t, e, o.Instances[0].ID, "write", "/tmp/go", "now")
		observe(t, e, w.ID, "ready", ready)
	})

	t.Run("CannotStart", func(t *testing.T) {
		w := newWorkload("none", "1", image)
		w.Container.Entrypoint = []string{"/nowhere"}
		w.Container.Restart.Policy = maru.RestartNever
		apply(t, e, w)
		o := observe(t, e, w.ID, "failed", func(o maru.Observation) bool {
			return len(o.Instances) == 1 && o.Instances[0].Phase == maru.PhaseFailed
		})
		if i := o.Instances[0]; i.LastExit == nil || i.LastExit.Code != 127 || !strings.Contains(i.Message, "/nowhere") {
			t.Errorf("%s", maru.Raw(i))
		}
	})

	t.Run("Signal", func(t *testing.T) {
		w := newWorkload("quick", "1", image)
		w.Container.Stop = maru.Stop{Signal: "SIGINT", Drain: time.Millisecond}
		startOne(t, e, w)
		if err := e.Remove(t.Context(), w.ID); err != nil {
			t.Fatal(err)
		}
		observe(t, e, w.ID, "gone", func(o maru.Observation) bool { return o.Gone })
	})
}

func TestProtocols(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	for behaviour, want := range map[string]string{"serve": "http", "greet": "tcp"} {
		w := newWorkload(behaviour, "1", loadImage(t, e, func(c *v1.Config) { c.Cmd = []string{behaviour} }))
		apply(t, e, w)
		o := observe(t, e, w.ID, "recognized", func(o maru.Observation) bool {
			return len(o.Instances) == 1 && o.Instances[0].Protocols != nil
		})
		if got := o.Instances[0].Protocols[8080]; got != want {
			t.Errorf("%s: %q, want %q", behaviour, got, want)
		}
	}
}

func TestExecTerminal(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	id := startOne(t, e, newWorkload("web", "1", loadImage(t, e, nil))).ID
	sizes := make(chan maru.TermSize, 1)
	sizes <- maru.TermSize{Rows: 24, Cols: 80}
	out, seen := newWatchedBuffer()
	go func() {
		<-seen("size 24 80")
		sizes <- maru.TermSize{Rows: 50, Cols: 132}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stdin, _ := io.Pipe()
	code, err := e.Exec(ctx, id, maru.ExecCommand{Args: []string{"/program", "size"}, TTY: true, Size: sizes}, stdin, out, nil)
	if err != nil || code != 0 || !strings.Contains(out.String(), "size 50 132") {
		t.Errorf("code %d, %v: %q", code, err, out.String())
	}
}

func TestExec(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	id := startOne(t, e, newWorkload("web", "1", loadImage(t, e, nil))).ID

	var out bytes.Buffer
	input := bytes.Repeat([]byte("0123456789"), 50_000)
	code, err := e.Exec(t.Context(), id, maru.ExecCommand{Args: []string{"/program", "cat"}}, bytes.NewReader(input), &out, nil)
	if err != nil || code != 0 || !bytes.Equal(out.Bytes(), input) {
		t.Errorf("code %d, %v, %d bytes", code, err, out.Len())
	}
	if code, _, err := tryRun(t, e, id, "exit", "9"); err != nil || code != 9 {
		t.Errorf("code %d, %v", code, err)
	}
	code, err = e.Exec(t.Context(), id, maru.ExecCommand{Args: []string{"/program", "id"}, User: "web", Dir: "/tmp", Env: map[string]string{"X": "y"}}, nil, &out, nil)
	if err != nil || code != 0 || !strings.Contains(out.String(), "1000 1001 [2000]") {
		t.Errorf("code %d, %v: %q", code, err, out.String()[len(input):])
	}
	if _, err := e.Exec(t.Context(), id, maru.ExecCommand{Args: []string{"/nowhere"}}, nil, nil, nil); maru.KindOf(err) != maru.Invalid {
		t.Errorf("kind %s: %v", maru.KindOf(err), err)
	}
	if _, err := e.Exec(t.Context(), "web-1-zzzzz", maru.ExecCommand{Args: []string{"x"}}, nil, nil, nil); maru.KindOf(err) != maru.NotFound {
		t.Error(err)
	}
	before := usageOf(t, e, id).PIDs
	ctx, cancel := context.WithCancel(t.Context())
	running, seen := newWatchedBuffer()
	go func() {
		<-seen("starting")
		cancel()
	}()
	if _, err := e.Exec(ctx, id, maru.ExecCommand{Args: []string{"/program", "idle"}}, nil, running, nil); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
	if after := usageOf(t, e, id).PIDs; after > before+2 { // threads of the Go runtime come and go
		t.Errorf("%d processes before, %d after", before, after)
	}
}

func TestForward(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	id := startOne(t, e, newWorkload("web", "1", loadImage(t, e, nil))).ID
	conn, err := e.Forward(t.Context(), id, 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "hello from") {
		t.Errorf("%q, %v", answer, err)
	}
	var refused net.Error
	if _, err := e.Forward(t.Context(), id, 9); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("%v, %v", err, refused)
	}
}

func TestRefused(t *testing.T) {
	e, _ := startEngine(t, newConfig(t))
	image := loadImage(t, e, nil)
	for name, c := range map[string]struct {
		change func(*maru.Workload)
		want   maru.Kind
	}{
		"no digest":       {func(w *maru.Workload) { w.Image = "test/program:1" }, maru.Invalid},
		"image away":      {func(w *maru.Workload) { w.Image = missing }, maru.NotFound},
		"path as name":    {func(w *maru.Workload) { w.ID.App = "../.." }, maru.Invalid},
		"volume as path":  {func(w *maru.Workload) { mountVolume(w, "..", "/data") }, maru.Invalid},
		"unknown volume":  {func(w *maru.Workload) { mountVolume(w, "x", "/data"); w.Volumes = nil }, maru.Invalid},
		"mount over root": {func(w *maru.Workload) { mountVolume(w, "x", "/") }, maru.Invalid},
		"subpath away":    {func(w *maru.Workload) { mountVolume(w, "x", "/data"); w.Container.Mounts[0].Subpath = "../x" }, maru.Invalid},
		"sysctl":          {func(w *maru.Workload) { w.Container.Sysctls = map[string]string{"kernel.panic": "1"} }, maru.Unsupported},
		"ulimit":          {func(w *maru.Workload) { w.Container.Ulimits = []maru.Ulimit{{Name: "patience"}} }, maru.Invalid},
		"user":            {func(w *maru.Workload) { w.Container.User = "nobody-there" }, maru.Invalid},
		"signal":          {func(w *maru.Workload) { w.Container.Stop.Signal = "SIGNOTHING" }, maru.Invalid},
		"memory":          {func(w *maru.Workload) { w.Container.Resources.Memory = 1 << 20 }, maru.Invalid},
		"security option": {func(w *maru.Workload) { w.Container.Host.SecurityOpt = []string{"magic"} }, maru.Unsupported},
		"hosts injection": {func(w *maru.Workload) {
			w.Container.ExtraHosts = []maru.HostEntry{{Name: "a\n192.0.2.1 b", Address: "192.0.2.2"}}
		}, maru.Invalid},
	} {
		w := newWorkload("bad", "1", image)
		c.change(&w)
		if err := e.Apply(t.Context(), w); maru.KindOf(err) != c.want {
			t.Errorf("%s: %v (%s), want %s", name, err, maru.KindOf(err), c.want)
		}
	}
}
