package local_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
)

// firstUsers are the least of the host's users that instances can be.
const firstUsers = 1 << 31

// outside gives who the instance's first process is on the host, which knows it by its network.
func outside(t testing.TB, cfg local.Config, instance string) uint32 {
	t.Helper()
	var ns syscall.Stat_t
	if err := syscall.Stat(filepath.Join(cfg.Layout.Run, "netns", instance), &ns); err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		var network, owner syscall.Stat_t
		if syscall.Stat(process+"/ns/net", &network) == nil && network.Ino == ns.Ino && syscall.Stat(process, &owner) == nil {
			return owner.Uid
		}
	}
	t.Fatalf("no process is in the network of %s", instance)
	return 0
}

// usersOf gives the first of the host's users that those of the instance are, as it sees it. It waits for
// an engine that only just began to take the instance up.
func usersOf(t testing.TB, e maru.Execer, instance string) int {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	code, out, err := tryRun(t, e, instance, "cat", "/proc/self/uid_map")
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); <-again.C {
		code, out, err = tryRun(t, e, instance, "cat", "/proc/self/uid_map")
	}
	fields := strings.Fields(out)
	if err != nil || code != 0 || len(fields) != 3 || fields[0] != "0" {
		t.Fatalf("uid_map: code %d, %q, %v", code, out, err)
	}
	first, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// needUsers skips where the machine does not let instances have users of their own.
func needUsers(t testing.TB, e *local.Engine) {
	t.Helper()
	why, err := e.Constraints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(why) > 0 {
		t.Skip(why)
	}
}

func TestUsers(t *testing.T) {
	cfg := newConfig(t)
	e, stop := startEngine(t, cfg)
	image := loadImage(t, e, func(c *v1.Config) { c.Volumes = map[string]struct{}{"/declared": {}} },
		file{path: "data/", mode: 0o750, uid: 1000, gid: 1001}, file{path: "data/seed", mode: 0o640, uid: 1000, gid: 1001, content: "seed"},
		file{path: "declared/", mode: 0o700, uid: 42, gid: 43})
	w := newWorkload("web", "1", image)
	w.Replicas = 2
	mountVolume(&w, "data", "/data")
	w.Container.Mounts = append(w.Container.Mounts, maru.Mount{Kind: maru.TmpfsMount, Target: "/scratch"})
	w.Container.Sysctls = map[string]string{"net.core.somaxconn": "77"}
	w.Files = []maru.File{
		{Path: "/run/secrets/key", Data: []byte("secret"), UID: 1000, GID: 1001, Mode: 0o400, Secret: true},
		{Path: "/etc/web.conf", Data: []byte("conf"), UID: 7, GID: 8, Mode: 0o640},
	}
	apply(t, e, w)
	instances := observe(t, e, w.ID, "ready", ready).Instances
	needUsers(t, e)
	one, other := instances[0].ID, instances[1].ID

	first := usersOf(t, e, one)
	if first < firstUsers || first == usersOf(t, e, other) {
		t.Errorf("the instances are users %d and %d on", first, usersOf(t, e, other))
	}
	if got := outside(t, cfg, one); int(got) != first {
		t.Errorf("root of the instance is user %d on the host, want %d", got, first)
	}
	for path, want := range map[string]string{
		"/data": "750 1000 1001", "/data/seed": "640 1000 1001", "/declared": "700 42 43", "/program": "755 0 0", "/": "755 0 0",
		"/run/secrets/key": "400 1000 1001", "/etc/web.conf": "640 7 8", "/etc/hosts": "644 0 0", "/scratch": "1777 0 0", "/dev/shm": "1777 0 0",
		"/proc/1/stat": "444 0 0",
	} {
		if got := run(t, e, one, "stat", path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/written", "/etc/hosts", "/data/written", "/data/seed", "/declared/written", "/scratch/written", "/proc/1/fd/1"} {
		run(t, e, one, "write", path, "by root")
	}
	if got := run(t, e, one, "cat", "/proc/sys/net/core/somaxconn"); got != "77" {
		t.Errorf("somaxconn %s", got)
	}
	folder := filepath.Join(cfg.Layout.VolumeData(), "*", "*", "*", "*", "written")
	var st syscall.Stat_t
	if found, err := filepath.Glob(folder); err != nil || len(found) != 1 || syscall.Stat(found[0], &st) != nil || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("%v in the volume is owned by %d:%d, %v", found, st.Uid, st.Gid, err)
	}

	t.Run("Restarted", func(t *testing.T) {
		if _, err := get("http://" + instances[0].Addresses.V4.String() + ":8080/exit?code=0"); err == nil {
			t.Error("it did not end")
		}
		observe(t, e, w.ID, "started again", func(o maru.Observation) bool {
			return ready(o) && slices.ContainsFunc(o.Instances, func(i maru.Instance) bool { return i.ID == one && i.Attempt == 2 })
		})
		if again := usersOf(t, e, one); again != first {
			t.Errorf("users from %d on, before %d", again, first)
		}
	})

	t.Run("Host", func(t *testing.T) {
		host := newWorkload("host", "1", image)
		host.Container.Host.HostUsers = true
		if got := usersOf(t, e, startOne(t, e, host).ID); got != 0 {
			t.Errorf("users from %d on", got)
		}
		bound := newWorkload("bound", "1", image)
		bound.Container.Mounts = []maru.Mount{{Kind: maru.BindMount, Source: t.TempDir(), Target: "/host"}}
		if got := usersOf(t, e, startOne(t, e, bound).ID); got != 0 {
			t.Errorf("with a bind mount: users from %d on", got)
		}
	})

	t.Run("Adopted", func(t *testing.T) {
		stop()
		e, _ := startEngine(t, cfg)
		observe(t, e, w.ID, "ready", ready)
		more := newWorkload("more", "1", image)
		added := usersOf(t, e, startOne(t, e, more).ID)
		if taken := []int{usersOf(t, e, one), usersOf(t, e, other)}; taken[0] != first || slices.Contains(taken, added) {
			t.Errorf("users from %d on, before %d; a new instance has them from %d on", taken, first, added)
		}
		removeAll(t, e)
		if left := leftover(t, cfg.Layout); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// BenchmarkUsers measures what users of its own add to the time from Apply to an instance's first answer.
// The two take turns, so that both have the same machine.
func BenchmarkUsers(b *testing.B) {
	e, _ := startEngine(b, newConfig(b))
	needUsers(b, e)
	image := loadImage(b, e, nil)
	took := make(map[string][]time.Duration)
	n := 0
	for b.Loop() {
		for _, users := range []string{"own", "host"} {
			n++
			w := newWorkload("web", strconv.Itoa(n), image)
			w.Container.Host.HostUsers = users == "host"
			began := time.Now()
			instance := startOne(b, e, w)
			if _, err := get("http://" + instance.Addresses.V4.String() + ":8080/"); err != nil {
				b.Fatal(err)
			}
			took[users] = append(took[users], time.Since(began))
			stopNow(b, e, w.ID, instance.ID)
		}
	}
	for users, all := range took {
		slices.Sort(all)
		for name, at := range map[string]int{"min": 0, "p50": len(all) / 2} {
			b.ReportMetric(float64(all[at].Microseconds())/1000, users+"-"+name+"-ms")
		}
	}
	b.ReportMetric(0, "ns/op")
}
