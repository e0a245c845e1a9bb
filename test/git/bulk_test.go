package git

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/test/host"
)

// mostMemory is what the server may ever have in use while repositories of any size come and go: it has less than 100 MB,
// and would have a gigabyte if it kept what goes through it.
const mostMemory = 400 << 20

// full tells whether the tests that have a size have that of their bars.
var full = os.Getenv("MARU_TIMINGS") != ""

// sleeping is an app without an instance, so that many environments of it cost little.
const sleeping = `name: shop
services:
  web:
    build: .
    deploy: {replicas: 0}
    environment: {VERSION: "VERSION"}
x-maru:
  environments:
    production: {branch: main}
    preview: {branch: "*", domain: "*.preview.localhost", ttl: 72h, limit: 100}
`

// TestManyPushesAtOnce: fifty people push at once, each a branch of their own.
func TestManyPushesAtOnce(t *testing.T) {
	c := begin(t, host.Start(t))
	c.write("compose.yaml", versioned(sleeping, "main"))
	c.commit("Sleep")
	c.git("push", "maru", "main")
	people := make([]*clone, 50)
	for i := range people {
		p := &clone{Machine: c.Machine, t: t, dir: t.TempDir(), name: c.name}
		p.git("clone", "--quiet", c.dir, ".")
		p.git("remote", "add", "maru", strings.TrimSpace(c.git("remote", "get-url", "maru")))
		p.git("checkout", "--quiet", "-b", fmt.Sprintf("fix-%d", i))
		p.write("compose.yaml", versioned(sleeping, fmt.Sprint("fix ", i)))
		p.commit(fmt.Sprint("Fix ", i))
		people[i] = p
	}
	began := time.Now()
	var pushes errgroup.Group
	for i, p := range people {
		pushes.Go(func() error {
			if out, err := p.try("push", "maru", fmt.Sprintf("fix-%d", i)); err != nil {
				return fmt.Errorf("push %d: %w\n%s", i, err, out)
			}
			return nil
		})
	}
	if err := pushes.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pushes with their runs: %s; the server's most memory %d MB", len(people), time.Since(began).Round(time.Millisecond), c.mostMemory()>>20)
	c.whole()
	of := map[string]run{}
	for _, r := range c.runs("--all") {
		if r.Branch != "main" && of[r.Branch].Number != 0 {
			t.Errorf("%s has two runs", r.Branch)
		}
		of[r.Branch] = r
	}
	if most := c.mostMemory(); most > mostMemory {
		t.Errorf("the server had %d MB in use", most>>20)
	}
	for i, p := range people {
		branch, commit := fmt.Sprintf("fix-%d", i), strings.TrimSpace(p.git("rev-parse", "HEAD"))
		if r := of[branch]; r.Commit != commit || r.Phase != "succeeded" {
			t.Errorf("the run of %s at %.12s is %+v", branch, commit, r)
		}
		if has, _, _ := strings.Cut(c.git("ls-remote", "maru", "refs/heads/"+branch), "\t"); has != commit {
			t.Errorf("%s is at %s, not %s", branch, has, commit)
		}
	}
}

// TestBigRepository: a repository of a gigabyte comes by HTTP, is cloned, goes on by SSH, and is fetched. It has 64 MB
// but where the bars are measured.
func TestBigRepository(t *testing.T) {
	const door = "127.0.0.1:2222" // of SSH, in a network of the test's own
	c := begin(t, host.Start(t, "MARU_SSH="+door))
	blobs := 8
	if full {
		blobs = 128
	}
	c.fill(blobs)
	took := func(what string, do func()) {
		began := time.Now()
		do()
		t.Logf("%s: %s", what, time.Since(began).Round(time.Millisecond))
	}
	took(fmt.Sprintf("push of %d MB by HTTP", blobs*blob>>20), func() { c.git("push", "maru", "main") })
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	other := &clone{Machine: c.Machine, t: t, dir: t.TempDir(), name: c.name}
	took("clone", func() {
		other.git("clone", "--quiet", "--no-checkout", strings.TrimSpace(c.git("remote", "get-url", "maru")), ".")
	})
	c.useKey("ben")
	c.git("checkout", "--quiet", "--orphan", "other")
	c.git("rm", "--quiet", "-r", "--force", "bulk")
	c.fill(blobs / 4)
	took(fmt.Sprintf("push of %d MB by SSH", blobs/4*blob>>20), func() { c.git("push", "ssh://git@"+door+"/shop.git", "other") })
	took("fetch", func() { other.git("fetch", "--quiet", "origin") })
	for _, branch := range []string{"main", "other"} {
		if got, want := other.git("rev-parse", "origin/"+branch), c.git("rev-parse", branch); got != want {
			t.Errorf("%s is %s, not %s", branch, got, want)
		}
	}
	took("git fsck", c.whole)
	most := c.mostMemory()
	if t.Logf("the server's most memory: %d MB", most>>20); most > mostMemory {
		t.Errorf("the server had %d MB in use", most>>20)
	}
}

// TestKillInABigPush ends the server while the objects of a push come in. Nothing of that push stays; the next one
// brings it all, and is followed by the one run.
func TestKillInABigPush(t *testing.T) {
	c := begin(t, host.Start(t))
	c.git("push", "maru", "main")
	for i := range 3 {
		before := c.git("ls-remote", "maru", "refs/heads/main")
		c.version(fmt.Sprintf("round %d", i))
		c.commit(fmt.Sprint("Round ", i))
		c.fill(6)
		push := c.command(t.Context(), "push", "maru", "main")
		if err := push.Start(); err != nil {
			t.Fatal(err)
		}
		host.Eventually(t, time.Minute, "a part of the push is there", func() bool { return c.quarantined() > int64(i+1)*blob })
		c.killServer()
		if err := push.Wait(); err == nil {
			t.Fatal("the push succeeded")
		}
		host.Eventually(t, time.Minute, "the server is back", func() bool {
			after, err := c.try("ls-remote", "maru", "refs/heads/main")
			return err == nil && after == before
		})
		if left := c.quarantined(); left > 0 {
			t.Errorf("%d bytes of the push are left", left)
		}
		c.whole()
		c.git("push", "maru", "main")
		if got, want := c.serves(), fmt.Sprintf("round %d", i); got != want {
			t.Errorf("%q serves, not %q", got, want)
		}
	}
	c.whole()
	of := map[string]int{}
	for _, r := range c.runs() {
		of[r.Commit]++
		if r.Phase != "succeeded" || of[r.Commit] > 1 {
			t.Errorf("run %d of %d of its commit is %+v", r.Number, of[r.Commit], r)
		}
	}
	if len(of) != 4 {
		t.Errorf("%d commits have runs, not 4", len(of))
	}
}

// blob is the size of the blobs of [clone.fill].
const blob = 8 << 20

// fill commits blobs that can't be compressed. They are no part of images.
func (c *clone) fill(blobs int) {
	c.t.Helper()
	branch := strings.TrimSpace(c.git("symbolic-ref", "HEAD"))
	c.write(".dockerignore", ".git\ncompose.yaml\nbulk\n")
	c.git("add", ".")
	c.git("commit", "--quiet", "--allow-empty", "-m", "Leave the bulk out of images")
	parent := strings.TrimSpace(c.git("rev-parse", "HEAD"))
	load := c.command(c.t.Context(), "-c", "pack.compression=0", "-c", "core.compression=0", "fast-import", "--quiet", "--force")
	in, err := load.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := load.Start(); err != nil {
		c.t.Fatal(err)
	}
	w := bufio.NewWriterSize(in, 1<<20)
	for i := range blobs {
		fmt.Fprintf(w, "blob\nmark :%d\ndata %d\n", i+1, blob)
		_, _ = io.CopyN(w, rand.Reader, blob)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "commit %s\ncommitter Ann <ann@example.com> %d +0000\ndata 4\nBulk\nfrom %s\n", branch, time.Now().Unix(), parent)
	for i := range blobs {
		fmt.Fprintf(w, "M 100644 :%d bulk/%s/%d\n", i+1, parent[:8], i)
	}
	err = w.Flush()
	if closing := in.Close(); err == nil {
		err = closing
	}
	if waiting := load.Wait(); err == nil {
		err = waiting
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.git("reset", "--quiet", "--hard")
	c.git("config", "pack.window", "0") // there is nothing to find between them
}

// quarantined gives how many bytes of pushes are at the server, and not yet part of the repository.
func (c *clone) quarantined() (bytes int64) {
	folders, _ := filepath.Glob(filepath.Join(c.repository(), "objects", "*incoming-*"))
	for _, folder := range folders {
		_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					bytes += info.Size()
				}
			}
			return nil // it may go at any time
		})
	}
	return bytes
}

// mostMemory gives the most that the server had in use, in bytes.
func (c *clone) mostMemory() (bytes int64) {
	c.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID("server")))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	c.t.Fatal("the kernel does not tell")
	return 0
}
