package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/engine/local/bin"
)

// BenchmarkStart measures the time from Apply to the first HTTP answer, beside what runc alone takes
// for the same root file system.
func BenchmarkStart(b *testing.B) {
	b.Run("maru", func(b *testing.B) {
		e, _ := startEngine(b, newConfig(b))
		image := loadImage(b, e, nil)
		var took []time.Duration
		for b.Loop() {
			w := newWorkload("web", fmt.Sprint(len(took)+1), image)
			w.Container.Resources.Memory = 64 << 20
			began := time.Now()
			apply(b, e, w)
			instance := observe(b, e, w.ID, "ready", ready).Instances[0]
			if _, err := get("http://" + instance.Addresses.V4.String() + ":8080/"); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
			b.StopTimer()
			stopNow(b, e, w.ID, instance.ID)
			b.StartTimer()
		}
		report(b, took)
	})
	b.Run("runc", func(b *testing.B) {
		programs, err := bin.Install(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		bundle := newBundle(b)
		var took []time.Duration
		for b.Loop() {
			id := fmt.Sprintf("%s-%d", testName, len(took))
			began := time.Now()
			cmd := exec.Command(programs.Runc, "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, id)
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			for {
				if _, err := get("http://127.0.0.1:8080/"); err == nil {
					break
				}
				if time.Since(began) > patience {
					b.Fatal("the container of runc does not answer: ", cmd.Wait(), cmd.ProcessState)
				}
			}
			took = append(took, time.Since(began))
			b.StopTimer()
			if err := exec.Command(programs.Runc, "--root", filepath.Join(bundle, "state"), "kill", id, "KILL").Run(); err != nil {
				b.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			b.StartTimer()
		}
		report(b, took)
	})
}

// stopNow removes a workload and waits until it is gone.
func stopNow(b *testing.B, e *local.Engine, id maru.WorkloadID, instance string) {
	b.Helper()
	if err := e.Remove(b.Context(), id); err != nil {
		b.Fatal(err)
	}
	if err := e.Drained(b.Context(), instance); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for o, err := range e.Watch(ctx) {
		if err != nil {
			b.Fatal(err)
		}
		if o.Workload == id && o.Gone {
			return
		}
	}
}

// newBundle makes a bundle for runc with the test program, hardened as an instance is, in the host's
// network.
func newBundle(b *testing.B) string {
	b.Helper()
	bundle := b.TempDir()
	content, err := program()
	if err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "program"), content, 0o755); err != nil {
		b.Fatal(err)
	}
	spec := specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Args: []string{"/program"}, Cwd: "/", NoNewPrivileges: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"}, {Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue"},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + testName + "bench/" + filepath.Base(bundle),
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}},
		},
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), encoded, 0o600); err != nil {
		b.Fatal(err)
	}
	return bundle
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 { return float64(took[int(p*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.95), "p95-ms")
	b.ReportMetric(0, "ns/op")
}
