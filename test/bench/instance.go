package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/test/host"
)

const smallest = "example.test/hello:1"

const one = `
name: one
services:
  web:
    image: example.test/hello:1
    x-maru: {health: /}
`

var place = &maruv1.Scope{Project: "default", Environment: "production", App: "one"}

// measureInstance measures from the API call to an instance's first answer, and runc alone in turn.
func measureInstance(ctx context.Context, o options) ([]row, error) {
	return with(func(m *host.Machine, c *client.Client) ([]row, error) {
		if err := m.Load(ctx, smallest, "examples/hello"); err != nil {
			return nil, err
		}
		program, err := m.Build(ctx, "examples/hello")
		if err != nil {
			return nil, err
		}
		if err := deploy(ctx, m, one); err != nil {
			return nil, err
		}
		peer, err := newPeer(m, program)
		if err != nil {
			return nil, err
		}
		var ours, theirs times
		for range o.runs {
			took, err := startInstance(ctx, c)
			if err != nil {
				return nil, err
			}
			ours = append(ours, took)
			if took, err = peer.run(ctx); err != nil {
				return nil, err
			}
			theirs = append(theirs, took)
		}
		p50, p95 := ratio(ours.at(50), theirs.at(50)), ratio(ours.at(95), theirs.at(95))
		return []row{{what: "instance: API call to its first HTTP answer", bar: "3 times runc run", met: p50 <= 3 && p95 <= 3,
			measured: fmt.Sprintf("%s: %.1f and %.1f times", ours, p50, p95), peer: "runc run, no network: " + theirs.String()}}, nil
	})
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func deploy(ctx context.Context, m *host.Machine, text string) error {
	path, err := m.Compose(text)
	if err != nil {
		return err
	}
	_, err = m.Run(ctx, "deploy", "-f", path)
	return err
}

// scale sets the number of instances and waits until none is left when it is 0.
func scale(ctx context.Context, c *client.Client, n int32) error {
	if _, err := c.Apps.Scale(ctx, &maruv1.ScaleRequest{Scope: place, Replicas: map[string]int32{"web": n}}); err != nil {
		return err
	}
	if n > 0 {
		return nil
	}
	var err error
	gone := host.Wait(ctx, time.Minute, func() bool {
		var found []*maruv1.Instance
		found, err = instances(ctx, c)
		return err == nil && len(found) == 0
	})
	if !gone {
		return errors.Join(errors.New("instances are not gone"), err)
	}
	return nil
}

func instances(ctx context.Context, c *client.Client) ([]*maruv1.Instance, error) {
	status, err := c.Apps.Status(ctx, &maruv1.StatusRequest{Scope: place})
	if err != nil {
		return nil, err
	}
	var all []*maruv1.Instance
	for _, s := range status.App.Services {
		all = append(all, s.Instances...)
	}
	return all, nil
}

func startInstance(ctx context.Context, c *client.Client) (time.Duration, error) {
	if err := scale(ctx, c, 0); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the instance does not answer"))
	defer cancel()
	watch, err := c.Apps.Watch(ctx, &maruv1.WatchRequest{Scope: place})
	if err != nil {
		return 0, err
	}
	defer watch.Close()
	began := time.Now()
	if err := scale(ctx, c, 1); err != nil {
		return 0, err
	}
	for watch.Receive() {
		address := firstAddress(watch.Msg().App)
		if address == "" {
			continue
		}
		if !host.Wait(ctx, time.Minute, func() bool { return answers(address + ":8080") }) {
			return 0, context.Cause(ctx)
		}
		return time.Since(began), nil
	}
	return 0, errors.Join(context.Cause(ctx), watch.Err())
}

// firstAddress is that of the app's only instance, once it has one.
func firstAddress(app *maruv1.AppStatus) string {
	for _, s := range app.Services {
		for _, i := range s.Instances {
			if i.AddressV4 != "" {
				return i.AddressV4
			}
		}
	}
	return ""
}

var asker = http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func answers(address string) bool {
	response, err := asker.Get("http://" + address + "/")
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// peer is runc with the same root file system, in this network namespace.
type peer struct {
	runc, bundle, state string
	count               int
}

func newPeer(m *host.Machine, program string) (*peer, error) {
	found, err := filepath.Glob(filepath.Join(m.Layout.RuntimeData(), "bin", "*", "runc"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("find the embedded runc: %w", err)
	}
	folder := filepath.Dir(program)
	p := &peer{runc: found[0], bundle: filepath.Join(folder, "bundle"), state: filepath.Join(folder, "runc")}
	root := filepath.Join(p.bundle, "rootfs")
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"proc", "dev", "sys", "tmp"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(root, sub), 0o755))
	}
	if err := errors.Join(err, os.WriteFile(filepath.Join(root, "service"), data, 0o755)); err != nil {
		return nil, err
	}
	spec := exec.Command(p.runc, "spec")
	spec.Dir = p.bundle
	if out, err := spec.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("runc spec: %w\n%s", err, out)
	}
	return p, p.adapt(filepath.Join(p.bundle, "config.json"))
}

// adapt changes what "runc spec" wrote: the program, no terminal, this network namespace.
func (p *peer) adapt(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"/service"}, false
	delete(process, "rlimits")
	linux := spec["linux"].(map[string]any)
	var kept []any
	for _, n := range linux["namespaces"].([]any) {
		if n.(map[string]any)["type"] != "network" {
			kept = append(kept, n)
		}
	}
	linux["namespaces"] = kept
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func (p *peer) run(ctx context.Context) (time.Duration, error) {
	p.count++
	id := fmt.Sprintf("bench-%d-%d", os.Getpid(), p.count)
	cmd := exec.CommandContext(ctx, p.runc, "--root", p.state, "run", "--bundle", p.bundle, id)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ok := host.Wait(ctx, 20*time.Second, func() bool { return answers("127.0.0.1:8080") })
	took := time.Since(began)
	kill := exec.CommandContext(ctx, p.runc, "--root", p.state, "kill", id, "KILL")
	_ = kill.Run()
	_ = cmd.Wait()
	if !ok {
		return 0, fmt.Errorf("runc run: %s", out.String())
	}
	return took, nil
}

// measureMany measures until many instances serve, and what each takes.
func measureMany(ctx context.Context, o options) ([]row, error) {
	return with(func(m *host.Machine, c *client.Client) ([]row, error) {
		if err := m.Load(ctx, smallest, "examples/hello"); err != nil {
			return nil, err
		}
		if err := deploy(ctx, m, one); err != nil {
			return nil, err
		}
		var took times
		var each, shims int64
		for range max(1, min(o.runs/5, 3)) {
			if err := scale(ctx, c, 0); err != nil {
				return nil, err
			}
			before, _ := platformMemory(m)
			began := time.Now()
			if err := scale(ctx, c, int32(o.many)); err != nil {
				return nil, err
			}
			if err := allServe(ctx, c, o.many); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
			after, _ := platformMemory(m)
			shims = shimMemory(m) / int64(o.many)
			each = shims + (after-before)/int64(o.many)
		}
		if err := scale(ctx, c, 0); err != nil {
			return nil, err
		}
		return []row{
			{what: fmt.Sprintf("%d instances of the smallest service serving", o.many), bar: "15 s", measured: took.String(), met: took.at(50) <= 15*time.Second},
			{what: "memory (PSS) for each of them, the app's own excluded", bar: "10 MB", met: each <= 10<<20,
				measured: fmt.Sprintf("%s (shim %s, the rest in Maru's processes)", megabytes(each), megabytes(shims))},
		}, nil
	})
}

func allServe(ctx context.Context, c *client.Client, wanted int) error {
	ok := host.Wait(ctx, 2*time.Minute, func() bool {
		found, err := instances(ctx, c)
		if err != nil || len(found) != wanted {
			return false
		}
		for _, i := range found {
			if !i.Ready {
				_ = wait(ctx, 20*time.Millisecond)
				return false
			}
		}
		for _, i := range found {
			if !answers(i.AddressV4 + ":8080") {
				return false
			}
		}
		return true
	})
	if !ok {
		return fmt.Errorf("not all %d serve", wanted)
	}
	return nil
}

func shimMemory(m *host.Machine) int64 {
	var sum int64
	for _, pid := range m.ShimPIDs() {
		sum += host.Memory(pid)
	}
	return sum
}

// measureSuccessor measures from kill -9 of an instance to its successor's first answer.
func measureSuccessor(ctx context.Context, o options) ([]row, error) {
	return with(func(m *host.Machine, c *client.Client) ([]row, error) {
		if err := m.Load(ctx, smallest, "examples/hello"); err != nil {
			return nil, err
		}
		if err := deploy(ctx, m, one); err != nil {
			return nil, err
		}
		if err := scale(ctx, c, int32(o.runs)); err != nil {
			return nil, err
		}
		if err := allServe(ctx, c, o.runs); err != nil {
			return nil, err
		}
		found, err := instances(ctx, c)
		if err != nil {
			return nil, err
		}
		var took times
		for _, i := range found {
			pids := m.InstancePIDs(i.Id)
			began := time.Now()
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					return nil, err
				}
			}
			if !host.Wait(ctx, time.Minute, func() bool { return answers(i.AddressV4 + ":8080") }) {
				return nil, fmt.Errorf("%s has no successor", i.Id)
			}
			took = append(took, time.Since(began))
		}
		return []row{{what: "instance killed to its successor's first HTTP answer", bar: "0.5 s", measured: took.String(), met: took.at(50) <= 500*time.Millisecond}}, nil
	})
}
