package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru/test/images"
)

// TestPipeline runs the workflows of a folder by maru ci run: in containers of their own, with a service
// beside them, and with nothing left of them.
func TestPipeline(t *testing.T) {
	m := start(t, "MARU_JOB_IMAGE=ubuntu-latest=docker.io/test/job:1")
	if err := m.Load(t.Context(), "test/service:1", "test/end-to-end/service"); err != nil {
		t.Fatal(err)
	}
	image, err := images.OfHost(images.JobPrograms, nil, v1.Config{Cmd: []string{"sh"}})
	if err != nil {
		t.Fatal(err)
	}
	archive, tag := filepath.Join(t.TempDir(), "job.tar"), name.MustParseReference("docker.io/test/job:1")
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		t.Fatal(err)
	}
	m.maru(t, "image", "load", archive)

	dir := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(".gitignore", "ignored\n")
	write("ignored", "x")
	write("source", "from the tree\n")
	write(".maru/workflows/test.yml", `
name: test
on: push
jobs:
  make:
    runs-on: ubuntu-latest
    outputs: {o: "${{ steps.s.outputs.o }}"}
    services: {web: {image: docker.io/test/service:1, ports: [8080]}}
    steps:
      - uses: actions/checkout@v4
      - id: s
        run: |
          cat source; ls
          for host in web localhost; do
            bash -c 'exec 3<>/dev/tcp/$0/8080; printf "GET / HTTP/1.0\r\n\r\n" >&3; head -1 <&3 | tr -d "\r"' $host
          done
          echo "o=made" >> "$GITHUB_OUTPUT"; echo made > made
      - uses: actions/upload-artifact@v4
        with: {name: made, path: made}
  use:
    needs: make
    runs-on: ubuntu-latest
    steps:
      - uses: actions/download-artifact@v4
      - run: |
          [ "$(cat made/made)" = ${{ needs.make.outputs.o }} ]
          echo "--- FAIL: TestX (0.1s)"; echo "    x_test.go:7: wrong"; exit ${{ vars.none || 1 }}
`)
	if out, err := exec.Command("git", "-C", dir, "init", "--quiet").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, complaints, code := m.try(t, "ci", "run", "--dir", dir)
	for _, want := range []string{
		"[make]   from the tree\n[make]   source\n[make]   HTTP/1.0 200 OK\n[make]   HTTP/1.0 200 OK\n", "[make]   artifact made, 5 bytes",
		"[make] job ended: success", "tests: 0 passed, 1 failed, 0 skipped", "failed: TestX at x_test.go:7", "[use] job ended: failure", "workflow test: failure",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if code != 1 || t.Failed() {
		t.Errorf("exit code %d\n%s\n%s", code, out, complaints)
	}
	if ps := m.maru(t, "ps", "--all"); strings.Contains(ps, "jobs") {
		t.Errorf("jobs are taken for apps:\n%s", ps)
	}
	write(".maru/workflows/wrong.yml", "on: push\njobs:\n  a:\n    runs-on: macos-14\n    steps: [{run: x}]\n")
	if _, complaints, code = m.try(t, "ci", "run", "--dir", dir); code != 1 || !strings.Contains(complaints, ".maru/workflows/wrong.yml:4:5: Maru runs Linux only") {
		t.Errorf("exit code %d: %s", code, complaints)
	}
}
