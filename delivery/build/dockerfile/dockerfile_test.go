package dockerfile

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/auth"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

var here = ocispec.Platform{OS: "linux", Architecture: "amd64"}

func TestAttributes(t *testing.T) {
	got, err := attributes(build.Request{Epoch: time.Unix(7, 0), Build: maru.Build{
		Context: "/src", Dockerfile: "docker/web.Dockerfile", Args: map[string]string{"A": "1", "EMPTY": ""}, Target: "x",
		Labels: map[string]string{"l": "v"}, NoCache: true, Pull: true, Network: "none", ShmSize: 64, Platforms: []string{"linux/amd64"},
		Ulimits: []maru.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core", Soft: -1, Hard: -1}}, ExtraHosts: map[string]string{"b": "::1", "a": "192.0.2.1"},
	}}, here)
	want := map[string]string{
		"filename": "web.Dockerfile", "cmdline": "embedded", "platform": "linux/amd64", "image-resolve-mode": "pull", "no-cache": "", "target": "x",
		"build-arg:A": "1", "build-arg:EMPTY": "", "build-arg:SOURCE_DATE_EPOCH": "7", "label:l": "v", "force-network-mode": "none", "shm-size": "64",
		"ulimit": "nofile=1:2,core=-1:-1", "add-hosts": "a=192.0.2.1,b=::1",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = attributes(build.Request{Build: maru.Build{Context: "https://example.com/x.git#main"}}, here)
	want = map[string]string{"filename": "Dockerfile", "cmdline": "embedded", "platform": "linux/amd64", "image-resolve-mode": "local",
		"context": "https://example.com/x.git#main"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEmbedded(t *testing.T) {
	for frontend, want := range map[string]bool{
		"docker/dockerfile": true, "docker/dockerfile:1": true, "docker.io/docker/dockerfile:1.7-labs": true, "docker/dockerfile-upstream:master": false,
		"docker/dockerfile:1.4@sha256:abc": true, "docker/dockerfile:1-labs": true, "docker/dockerfile:2": false, "docker/dockerfile:10": false,
		"example.com/docker/dockerfile:1": false, "docker/dockerfile-x:1": false, "devthefuture/dockerfile-x": false,
	} {
		if embedded(frontend) != want {
			t.Errorf("%s: %v", frontend, !want)
		}
	}
}

func TestDockerfileStaysInTheContext(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("# syntax=hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "Dockerfile")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../" + filepath.Base(filepath.Dir(secret)) + "/secret"} {
		err := checkDockerfile(maru.Build{Context: dir, Dockerfile: name})
		if maru.KindOf(err) != maru.Invalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestProgress(t *testing.T) {
	at := func(s int64) *time.Time { when := time.Unix(s, 0); return &when }
	d := func(s string) digest.Digest { return digest.FromString(s) }
	statuses := make(chan *bkclient.SolveStatus, 10)
	statuses <- &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{
		{Digest: d("a"), Name: "[1/3] FROM base"}, // not begun
		{Digest: d("c"), Name: "[internal] load .dockerignore", Started: at(1), Completed: at(1)},
	}}
	statuses <- &bkclient.SolveStatus{
		Vertexes: []*bkclient.Vertex{{Digest: d("a"), Name: "[1/3] FROM base", Started: at(1)}},
		Statuses: []*bkclient.VertexStatus{{ID: "layer", Vertex: d("a"), Current: 5, Total: 10}, {ID: "layer", Vertex: d("a"), Current: 6, Total: 10}},
	}
	statuses <- &bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: d("a"), Data: []byte("one\ntw")}, {Vertex: d("a"), Data: []byte("o\nend")}}}
	statuses <- &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{
		{Digest: d("a"), Name: "[1/3] FROM base", Started: at(1), Completed: at(2)},
		{Digest: d("b"), Name: "[2/3] RUN x", Started: at(2), Completed: at(2), Cached: true},
		{Digest: d("e"), Name: "[3/3] RUN y", Started: at(2), Completed: at(3), Error: "exit code: 1"},
		{Digest: d("e"), Name: "[3/3] RUN y", Started: at(2), Completed: at(3), Error: "exit code: 1"},
	}}
	close(statuses)
	var got []string
	p := newProgress(func(e build.Event) {
		got = append(got, fmt.Sprint(e.Step, " ", e.Name, " ", e.Status, e.Log, e.Error, e.Moved, "/", e.Total))
	})
	p.follow(statuses)
	want := []string{
		"1 [1/3] FROM base started0/0", "1 [1/3] FROM base 5/10", "1 [1/3] FROM base one0/0", "1 [1/3] FROM base two0/0", "1 [1/3] FROM base end0/0",
		"1 [1/3] FROM base done0/0", "2 [2/3] RUN x cached0/0", "3 [3/3] RUN y errorexit code: 10/0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"one", "two", "end"}, p.vertexes[d("a")].last); diff != "" {
		t.Error(diff)
	}
}

func FuzzOutput(f *testing.F) {
	f.Add("one\ntwo\r\n", "three")
	f.Fuzz(func(t *testing.T, a, b string) {
		var got strings.Builder
		p := newProgress(func(e build.Event) {
			if strings.Contains(e.Log, "\n") || len(e.Log) > maxLine {
				t.Errorf("a line of %d bytes: %q", len(e.Log), e.Log)
			}
			got.WriteString(e.Log)
		})
		for _, piece := range []string{a, b} {
			p.output("d", piece)
		}
		p.flush(p.find("d", ""))
		if want := strings.ReplaceAll(a+b, "\n", ""); len(got.String()) > len(want) || !strings.Contains(a+b, "\r") && got.String() != want {
			t.Errorf("%q, want %q", got.String(), want)
		}
	})
}

func TestReason(t *testing.T) {
	for text, want := range map[string]string{
		`failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2`:                              "exit code 2",
		"rpc error: code = Unknown desc = failed to solve: dockerfile parse error on line 3: unknown instruction: X":          "unknown instruction: X",
		"failed to solve: a:1: failed to resolve source metadata for docker.io/library/a:1: docker.io/library/a:1: not found": "base image docker.io/library/a:1: not found",
		"a:1: failed to resolve source metadata for docker.io/library/a:1: failed to do request: Head x: no such host":        "base image docker.io/library/a:1: failed to do request: Head x: no such host",
		"something else": "something else",
	} {
		if got := reason(errors.New(text)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]maru.Kind{
		"write /x: no space left on device": maru.Exhausted,
		"failed to resolve source metadata for a: pull access denied, repository does not exist":          maru.Denied,
		"failed to resolve source metadata for a: unexpected status from HEAD request: 401 Unauthorized":  maru.Denied,
		"failed to resolve source metadata for a: failed to do request: dial tcp: lookup x: no such host": maru.Unavailable,
		"failed to resolve source metadata for a: a: not found":                                           maru.NotFound,
		`"/missing": not found`: maru.Invalid,
	} {
		if err := explain(context.Background(), errors.New(text), newProgress(nil)); maru.KindOf(err) != want || want != maru.Invalid && maru.HintOf(err) == "" {
			t.Errorf("%s: %s, hint %q", text, maru.KindOf(err), maru.HintOf(err))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := explain(ctx, errors.New("x"), newProgress(nil)); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	c := credentials{byHost: map[string]build.Credentials{"docker.io": {Username: "hub"}, "registry.example.com": {Username: "own"}}}
	for host, want := range map[string]string{"registry-1.docker.io": "hub", "docker.io": "hub", "registry.example.com": "own", "evil.example.com": ""} {
		got, err := c.Credentials(context.Background(), &auth.CredentialsRequest{Host: host})
		if err != nil || got.Username != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

func TestRegistryHosts(t *testing.T) {
	hosts := registryHosts(map[string][]string{"docker.io": {"https://mirror.example/hub", "http://127.0.0.1:5000"}, "*": {"https://all.example"}})
	for host, want := range map[string]string{
		"docker.io":      "https://mirror.example/v2/hub http://127.0.0.1:5000/v2 https://all.example/v2 https://registry-1.docker.io/v2",
		"ghcr.io":        "https://all.example/v2 https://ghcr.io/v2",
		"localhost:5000": "https://all.example/v2 http://localhost:5000/v2",
	} {
		all, err := hosts(host)
		var got []string
		for _, h := range all {
			got = append(got, h.Scheme+"://"+h.Host+h.Path)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}

func TestGuard(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for forbidden, want := range map[bool]string{true: "may not fetch", false: ""} {
		client := &http.Client{Transport: guardedTransport(func(a netip.Addr) bool { return forbidden && a.IsLoopback() })}
		resp, err := client.Get(server.URL)
		if err == nil {
			resp.Body.Close()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("forbidden %v: %v", forbidden, err)
		}
	}
}
