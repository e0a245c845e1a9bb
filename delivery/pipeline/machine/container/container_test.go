package container_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/keep"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/machine/container"
	"github.com/marucloud/maru/delivery/pipeline/machine/machinetest"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
	"github.com/marucloud/maru/engine/local"
)

// noImages pulls nothing: tests need no network.
type noImages struct{ *local.Engine }

func (noImages) Pull(_ context.Context, ref string, _ maru.PullOptions, _ func(maru.PullProgress)) (maru.Image, error) {
	return maru.Image{}, maru.Errorf(maru.NotFound, "there is no image %s", ref)
}

type world struct {
	engine       *local.Engine
	machine      *container.Machine
	job, service string
}

func newWorld(t *testing.T) world {
	t.Helper()
	e := startEngine(t)
	w := world{
		engine:  e,
		job:     jobImage(t, e, "test/job:1", "sh"),
		service: jobImage(t, e, "test/greeter:1", "greeter"),
	}
	w.machine = container.New(container.Parts{Engine: e, Execer: e, Images: noImages{e}, Traffic: &dataPlane{engine: e}}, container.Config{Memory: 256 << 20, ReadyWithin: 20 * time.Second})
	return w
}

const ask = `bash -c 'exec 3<>/dev/tcp/$0/$1 && cat <&3' "$1" "$2"`

func TestMachine(t *testing.T) {
	w := newWorld(t)
	machinetest.Run(t, func(t *testing.T) machinetest.Fixture {
		return machinetest.Fixture{Machine: w.machine, Image: w.job, Missing: "test/missing:1", Service: w.service, Port: 18089, Ask: ask, Names: true}
	})
	t.Run("NothingIsLeft", func(t *testing.T) {
		if left := workloads(t, w.engine); left != "" {
			t.Errorf("left: %s", left)
		}
	})
	t.Run("Limits", func(t *testing.T) {
		c, err := w.machine.Start(t.Context(), machine.Spec{ID: "limits", Image: machine.Image{Reference: w.job}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Remove(context.Background())
		var out bytes.Buffer
		// A pipe keeps all that it gets in memory before it sorts.
		code, _ := c.Exec(t.Context(), maru.ExecCommand{Args: []string{"bash", "-c", `x=$(head -c 600000000 /dev/zero | tr '\0' x); echo ${#x}`}}, nil, &out, &out)
		if code == 0 {
			t.Errorf("more memory than the job has: %s", out.String())
		}
	})
	t.Run("Disk", func(t *testing.T) {
		small := container.New(container.Parts{Engine: w.engine, Execer: w.engine, Images: noImages{w.engine}, Traffic: &dataPlane{engine: w.engine}}, container.Config{Memory: 256 << 20, Disk: 64 << 20})
		start := func(id string) machine.Container {
			c, err := small.Start(t.Context(), machine.Spec{ID: id, Image: machine.Image{Reference: w.job}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Remove(context.Background()) })
			return c
		}
		full, other := start("full"), start("other")
		_, err := full.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", "while :; do head -c 20000000 /dev/zero >> ~/much; sleep 0.05; done"}}, nil, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "writing more than its limit of 64 MiB to the disk") {
			t.Errorf("a job that fills the disk: %v", err)
		}
		if code, err := other.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", "head -c 20000000 /dev/zero > ~/some"}}, nil, io.Discard, io.Discard); code != 0 || err != nil {
			t.Errorf("the one beside it: %d %v", code, err)
		}
	})
	t.Run("Isolation", func(t *testing.T) { testIsolation(t, w) })
	t.Run("Sweep", func(t *testing.T) {
		if _, err := w.machine.Start(t.Context(), machine.Spec{ID: "left-behind", Image: machine.Image{Reference: w.job}}); err != nil {
			t.Fatal(err)
		}
		if err := w.machine.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := workloads(t, w.engine); left != "" {
			t.Errorf("left: %s", left)
		}
	})
	t.Run("Workflow", func(t *testing.T) { testWorkflow(t, w) })
}

// testIsolation: a job reaches the services of no other job.
func testIsolation(t *testing.T, w world) {
	addresses := map[string]string{}
	for _, id := range []string{"one", "two"} {
		c, err := w.machine.Start(t.Context(), machine.Spec{ID: id, Image: machine.Image{Reference: w.job}, Services: []machine.Service{
			{Name: "db", Image: machine.Image{Reference: w.service}, Ports: []machine.Port{{Container: 18089, Host: 5432}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Remove(context.Background())
		var out bytes.Buffer
		_, err = c.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", `grep db /etc/hosts | head -c 60; bash -c 'exec 3<>/dev/tcp/localhost/5432 && cat <&3'`}}, nil, &out, &out)
		if err != nil || !strings.HasSuffix(out.String(), "hello") {
			t.Errorf("%v %s", err, out.String())
		}
		addresses[id] = strings.Fields(out.String())[0]
		if other := addresses["one"]; id == "two" {
			out.Reset()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			code, err := c.Exec(ctx, maru.ExecCommand{Args: []string{"bash", "-c", "exec 3<>/dev/tcp/" + other + "/18089 && cat <&3"}}, nil, &out, &out)
			cancel()
			if err == nil && code == 0 || strings.Contains(out.String(), "hello") {
				t.Errorf("another job's service at %s answers: %s", other, out.String())
			}
		}
	}
}

// testWorkflow runs a workflow with a service, artifacts and a cache in real containers.
func testWorkflow(t *testing.T, w world) {
	dir, keeping := t.TempDir(), t.TempDir()
	text := fmt.Sprintf(`
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    services:
      db: {image: "%s", ports: ["5432:18089"]}
    outputs: {o: "${{ steps.s.outputs.o }}"}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/cache@v4
        id: c
        with: {path: ~/cache, key: "k-${{ hashFiles('src/*') }}"}
      - id: s
        run: |
          cat src/file
          bash -c 'exec 3<>/dev/tcp/db/18089 && cat <&3'; echo
          bash -c 'exec 3<>/dev/tcp/localhost/${{ job.services.db.ports['18089'] }} && cat <&3'; echo
          echo o=done >> $GITHUB_OUTPUT
          mkdir -p ~/cache out && echo kept > ~/cache/f && echo made > out/f
          echo "hit=${{ steps.c.outputs.cache-hit }}"
      - uses: actions/upload-artifact@v4
        with: {name: out, path: out}
  use:
    needs: build
    runs-on: [self-hosted, linux]
    container: "%s"
    steps:
      - uses: actions/download-artifact@v4
        with: {name: out}
      - run: echo ${{ needs.build.outputs.o }} $(cat f) $(id -u)
`, w.service, w.job)
	for name, content := range map[string]string{".maru/workflows/w.yml": text, "src/file": "source\n"} {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	project, issues := workflow.Load(fstest.MapFS{".maru/workflows/w.yml": {Data: []byte(text)}}, ".maru/workflows")
	if err := issues.Err(); err != nil {
		t.Fatal(err)
	}
	p := pipeline.New(&runner.Runner{
		Machine: w.machine, Labels: runner.Labels{"ubuntu-latest": w.job, "self-hosted": w.job},
		Cache: &keep.Cache{Dir: filepath.Join(keeping, "cache")}, Artifacts: &keep.Artifacts{Dir: filepath.Join(keeping, "artifacts")},
	}, 2)
	for i, hit := range []string{"hit=", "hit=true"} {
		var log []string
		began := time.Now()
		conclusion, err := p.Run(t.Context(), pipeline.Request{
			ID: fmt.Sprint("run-", i), Project: project, Workflow: project.Workflows[0], Source: pipeline.Folder(dir),
			Event: pipeline.Event{Name: "push", Ref: "refs/heads/main", Repository: "a/b"},
		}, func(e maru.RunEvent) {
			if e.Kind == maru.RunLine || e.Kind == maru.RunAnnotation {
				log = append(log, e.Text)
			}
		})
		t.Logf("run %d took %s", i, time.Since(began))
		all := strings.Join(log, "\n")
		if err != nil || conclusion != maru.Success || !strings.Contains(all, "source\nhello\nhello\n"+hit) || !strings.Contains(all, "done made 0") {
			t.Errorf("run %d: %s %v\n%s", i, conclusion, err, all)
		}
	}
}

func workloads(t *testing.T, e maru.Engine) string {
	t.Helper()
	var all []string
	for o, err := range e.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Synced {
			break
		}
		if !o.Gone {
			all = append(all, o.Workload.String())
		}
	}
	return strings.Join(all, " ")
}
