package git

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru/test/host"
	"github.com/marucloud/maru/test/images"
)

// TestWorkflowsComeBeforeADeploy: a push whose tests fail says which and deploys nothing, and one that corrects
// them is deployed.
func TestWorkflowsComeBeforeADeploy(t *testing.T) {
	m := host.Start(t, "MARU_JOB_IMAGE=ubuntu-latest=docker.io/test/job:1")
	image, err := images.OfHost(images.JobPrograms, nil, v1.Config{Cmd: []string{"sh"}})
	if err != nil {
		t.Fatal(err)
	}
	archive, tag := filepath.Join(t.TempDir(), "job.tar"), name.MustParseReference("docker.io/test/job:1")
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		t.Fatal(err)
	}
	m.Do(t, "image", "load", archive)
	c := begin(t, m)
	if err := os.MkdirAll(filepath.Join(c.dir, ".maru", "workflows"), 0o755); err != nil {
		t.Fatal(err)
	}
	workflow := func(tests string) {
		c.write(".maru/workflows/test.yml", `
name: test
on: {push: {branches: [main]}}
jobs:
  unit:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: |
          grep one compose.yaml
          `+tests+`
`)
		c.git("add", ".")
		c.commit("Test it")
	}
	workflow(`echo "--- FAIL: TestTea (0.1s)"; echo "    tea_test.go:7: cold"; exit 1`)
	out, err := c.try("push", "maru", "main")
	if err == nil {
		t.Error("the push succeeded")
	}
	shows(t, out, "remote: unit: job started", `unit |     environment: {VERSION: "one"}`, "tests: 0 passed, 1 failed", "failed: TestTea at tea_test.go:7", "error: the tests failed: job unit")
	if strings.Contains(out, "web: build") || c.serves() != "" {
		t.Errorf("it was deployed all the same:\n%s", out)
	}
	workflow("echo ok")
	out = c.git("push", "maru", "main")
	shows(t, out, "remote: unit: job ended: success", "remote: rollout 1 is serving")
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	if runs := c.runs(); len(runs) != 2 || runs[0].Phase != "succeeded" || runs[1].Phase != "failed" || runs[1].Reason != "the tests failed: job unit" {
		t.Errorf("%+v", runs)
	}
}
