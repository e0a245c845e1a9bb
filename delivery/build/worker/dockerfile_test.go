package worker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/buildtest"
	"github.com/marucloud/maru/delivery/build/worker"
)

// probe is the only program in the images of these tests. It does what it is told to, in order, and
// has the shell's place: -c and a line of words.
const probe = `package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 2 && args[0] == "-c" {
		args = strings.Fields(args[1])
	}
	for len(args) > 1 {
		what, arg := args[0], args[1]
		args = args[2:]
		switch what {
		case "say":
			fmt.Println(arg)
		case "env":
			fmt.Println(arg + "=" + os.Getenv(arg))
		case "cat":
			data, err := os.ReadFile(arg)
			fmt.Println(string(data), err)
		case "ls":
			entries, err := os.ReadDir(arg)
			fmt.Println(entries, err)
		case "write":
			fmt.Println(os.WriteFile(arg, []byte(arg), 0o644))
		case "dial":
			conn, err := net.DialTimeout("tcp", arg, 300*time.Millisecond)
			if err == nil {
				conn.Close()
			}
			fmt.Println("dialled", arg, err == nil)
		case "serve":
			go http.ListenAndServe(arg, nil)
		case "links":
			links, err := net.Interfaces()
			fmt.Println("links", len(links), err)
		case "sleep":
			d, _ := time.ParseDuration(arg)
			time.Sleep(d)
		case "eat":
			n, _ := strconv.Atoi(arg)
			b := make([]byte, n<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			fmt.Println("ate", len(b))
		case "exit":
			n, _ := strconv.Atoi(arg)
			os.Exit(n)
		}
	}
}
`

const shell = "SHELL [\"/probe\", \"-c\"]\n"

func dockerRequest(dir string) build.Request {
	return build.Request{Name: "app", Build: maru.Build{Context: dir}}
}

// hub is a registry on the loopback, which serves one image to those who have the password.
type hub struct {
	address string
	mu      sync.Mutex
	asked   []string
}

func newHub(t *testing.T, program string) *hub {
	t.Helper()
	h := &hub{}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked = append(h.asked, r.URL.Path)
		h.mu.Unlock()
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.address = server.Listener.Addr().String()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Env = []string{"FROM=hub"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(h.address+"/library/base:1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "ann", Password: "secret"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestDockerfile has one worker for all its parts, in a network of its own with nothing outside.
func TestDockerfile(t *testing.T) {
	if !buildtest.Alone(t) {
		return
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "probe")
	buildtest.Program(t, program, probe)
	h := newHub(t, program)
	r := newRig(t, func(cfg *worker.Config) {
		cfg.Mirrors = map[string][]string{"docker.io": {"http://" + h.address}}
		cfg.Budget.Memory = 256 << 20
	})
	withProbe := func(files map[string]string) string {
		context := folder(t, files)
		if err := os.Link(program, filepath.Join(context, "probe")); err != nil {
			t.Fatal(err)
		}
		return context
	}
	t.Run("everything at once", func(t *testing.T) { dockerFeatures(t, r, withProbe) })
	t.Run("cache", func(t *testing.T) { dockerCache(t, r, withProbe) })
	t.Run("same source, same image", func(t *testing.T) { dockerReproducible(t, r, withProbe) })
	t.Run("base images", func(t *testing.T) { dockerBases(t, r, h) })
	t.Run("network", func(t *testing.T) { dockerNetwork(t, r, withProbe) })
	t.Run("failures", func(t *testing.T) { dockerFailures(t, r, withProbe) })
	t.Run("interrupted", func(t *testing.T) { dockerInterrupted(t, r, withProbe) })
	t.Run("prune", func(t *testing.T) {
		if freed, err := r.client.Prune(context.Background(), 0); err != nil || freed == 0 {
			t.Errorf("freed %d, %v", freed, err)
		}
	})
}

func dockerFeatures(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	dir := withProbe(map[string]string{
		"build/web.Dockerfile": "# syntax=docker/dockerfile:1.7\n" +
			"FROM scratch AS tools\nCOPY probe /probe\n" + shell +
			"ARG WORD=none\nARG KEPT\n" +
			"RUN env WORD env KEPT\n" +
			"RUN --mount=type=secret,id=key,target=/key cat /key\n" +
			"RUN --mount=type=cache,target=/cache write /cache/x ls /cache\n" +
			"RUN --mount=from=extra,target=/extra cat /extra/x.txt\n" +
			"RUN cat /etc/hosts\n" +
			"COPY . /src/\nRUN ls /src\n" +
			"FROM tools AS wanted\nEXPOSE 8080 53/udp\nVOLUME /var/data\nUSER 1000:1000\nSTOPSIGNAL SIGQUIT\nLABEL a=b\nENTRYPOINT [\"/probe\"]\nCMD [\"say\", \"hi\"]\n" +
			"FROM tools AS unwanted\nRUN exit 1\n",
		".dockerignore": "secret.txt\n", "secret.txt": "hunter2", "public.txt": "",
	})
	extra := folder(t, map[string]string{"x.txt": "from elsewhere"})
	req := dockerRequest(dir)
	req.Build.Dockerfile = "build/web.Dockerfile"
	req.Build.Args = map[string]string{"WORD": "given", "KEPT": "yes"}
	req.Build.Target = "wanted"
	req.Build.Labels = map[string]string{"team": "tea"}
	req.Build.Secrets = []maru.BuildSecret{{ID: "key"}}
	req.Secrets = map[string][]byte{"key": []byte("s3cret")}
	req.Build.Contexts = map[string]string{"extra": extra}
	req.Build.ExtraHosts = map[string]string{"db.example": "192.0.2.9"}
	req.Build.ShmSize = 16 << 20
	req.Build.Ulimits = []maru.Ulimit{{Name: "nofile", Soft: 512, Hard: 512}}
	req.Build.Network = "none"
	req.Build.Platforms = []string{"linux/" + runtime.GOARCH}
	req.Build.Tags = []string{"other:2"}
	image, events := r.mustBuild(t, req)
	said := output(events)
	for _, want := range []string{"WORD=given\nKEPT=yes", "s3cret", "- x]", "from elsewhere", "192.0.2.9\tdb.example", "public.txt"} {
		if !strings.Contains(said, want) {
			t.Errorf("the build did not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, "secret.txt") {
		t.Error(".dockerignore was not heeded")
	}
	c := image.Config
	if c.User != "1000:1000" || c.StopSignal != "SIGQUIT" || c.Labels["team"] != "tea" || c.Labels["a"] != "b" ||
		len(c.Ports) != 2 || c.Ports[0] != (maru.Port{Port: 53, Protocol: maru.UDP}) || len(c.Volumes) != 1 || c.Command[1] != "hi" {
		t.Errorf("config %+v", c)
	}
	if _, err := r.ctd.GetImage(context.Background(), "docker.io/library/other:2"); err != nil {
		t.Error(err)
	}
	root := r.files(t, image.Reference)
	if _, err := os.Stat(filepath.Join(root, "key")); err == nil {
		if data, _ := os.ReadFile(filepath.Join(root, "key")); len(data) > 0 {
			t.Error("a secret is in the image")
		}
	}
	for _, e := range events {
		if e.Name == "" || e.Step == 0 || e.Status == build.StepDone && (e.Started.IsZero() || e.Completed.Before(e.Started)) {
			t.Errorf("event %+v", e)
		}
	}
}

func dockerCache(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	dir := withProbe(map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /probe\n" + shell + "RUN say first\nCOPY conf /conf\nRUN say second\n", "conf": "1"})
	first, _ := r.mustBuild(t, dockerRequest(dir))
	start := time.Now()
	again, events := r.mustBuild(t, dockerRequest(dir))
	t.Logf("a build without a change takes %v", time.Since(start))
	if again.Reference != first.Reference || statusOf(events, "RUN say first") != build.StepCached || statusOf(events, "RUN say second") != build.StepCached {
		t.Errorf("%s, then %s: %+v", first.Reference, again.Reference, events)
	}
	write(t, dir, map[string]string{"conf": "2"})
	start = time.Now()
	changed, events := r.mustBuild(t, dockerRequest(dir))
	t.Logf("a build with a change takes %v", time.Since(start))
	if changed.Reference == first.Reference || statusOf(events, "RUN say first") != build.StepCached || statusOf(events, "RUN say second") != build.StepDone {
		t.Errorf("%s, then %s: %+v", first.Reference, changed.Reference, events)
	}
	req := dockerRequest(dir)
	req.Build.NoCache = true
	if _, events = r.mustBuild(t, req); statusOf(events, "RUN say first") != build.StepDone {
		t.Errorf("no_cache: %+v", events)
	}
}

func dockerReproducible(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	var refs []string
	for range 2 {
		dir := withProbe(map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /probe\n" + shell + "RUN write /x\n"})
		req := dockerRequest(dir)
		req.Build.NoCache = true
		req.Epoch = time.Unix(1_700_000_000, 0)
		image, _ := r.mustBuild(t, req)
		refs = append(refs, image.Reference)
	}
	if refs[0] != refs[1] {
		t.Error(refs)
	}
}

func dockerBases(t *testing.T, r *rig, h *hub) {
	req := build.Request{Name: "derived", Build: maru.Build{Context: t.TempDir(),
		DockerfileInline: "FROM base:1\n" + shell + "RUN env FROM\n"}}
	if _, _, err := r.build(t, req); maru.KindOf(err) != maru.Denied || maru.HintOf(err) == "" {
		t.Errorf("without a password: %s %v", maru.KindOf(err), err)
	}
	req.Credentials = map[string]build.Credentials{h.address: {Username: "ann", Password: "secret"}}
	_, events := r.mustBuild(t, req)
	if said := output(events); !strings.Contains(said, "FROM=hub") {
		t.Errorf("said %q", said)
	}
	// What is only in the store is taken from there.
	h.mu.Lock()
	h.asked = nil
	h.mu.Unlock()
	_, events = r.mustBuild(t, build.Request{Name: "twice", Build: maru.Build{Context: t.TempDir(),
		DockerfileInline: "FROM derived\n" + shell + "RUN env FROM say again\n"}})
	h.mu.Lock()
	if said := output(events); !strings.Contains(said, "again") || len(h.asked) > 0 {
		t.Errorf("said %q, asked %v", said, h.asked)
	}
	h.mu.Unlock()
	_, _, err := r.build(t, build.Request{Name: "none", Credentials: req.Credentials,
		Build: maru.Build{Context: t.TempDir(), DockerfileInline: "FROM none:1\n"}})
	var failed *build.StepError
	if maru.KindOf(err) != maru.NotFound || !errors.As(err, &failed) || failed.Line != 1 || failed.Reason != "base image docker.io/library/none:1: not found" {
		t.Errorf("an image that is nowhere: %s %v", maru.KindOf(err), err)
	}
	_, _, err = r.build(t, build.Request{Name: "none", Build: maru.Build{Context: t.TempDir(),
		DockerfileInline: "FROM 127.0.0.1:1/none:1\n"}})
	if maru.KindOf(err) != maru.Unavailable {
		t.Errorf("a registry that is away: %s %v", maru.KindOf(err), err)
	}
	start := time.Now()
	_, _, err = r.build(t, build.Request{Name: "none", Build: maru.Build{Context: t.TempDir(), DockerfileInline: "FROM registry.example.com/none:1\n"}})
	if took := time.Since(start); maru.KindOf(err) != maru.Unavailable || took > time.Minute {
		t.Errorf("without a network, after %v: %s %v", took, maru.KindOf(err), err)
	}
}

func dockerNetwork(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	server := httptest.NewServer(http.FileServer(http.Dir(t.TempDir())))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	dockerfile := func(line string) string { return "FROM scratch\nCOPY probe /probe\n" + shell + line + "\n" }
	for network, want := range map[string]string{
		"":     "dialled 127.0.0.1:" + port + " false\nlinks 2 <nil>",
		"none": "dialled 127.0.0.1:" + port + " false\nlinks 1 <nil>",
		"host": "dialled 127.0.0.1:" + port + " true\nlinks 1 <nil>",
	} {
		req := dockerRequest(withProbe(map[string]string{"Dockerfile": dockerfile("RUN dial 127.0.0.1:" + port + " links all")}))
		req.Build.Network = network
		req.Build.NoCache = true
		if _, events := r.mustBuild(t, req); !strings.Contains(output(events), want) {
			t.Errorf("network %q: %q", network, output(events))
		}
	}
	req := dockerRequest(withProbe(map[string]string{"Dockerfile": dockerfile("RUN --network=host links all")}))
	if _, _, err := r.build(t, req); err == nil {
		t.Error("a Dockerfile took the host's network")
	}
	req = dockerRequest(withProbe(map[string]string{"Dockerfile": dockerfile("RUN --security=insecure links all")}))
	if _, _, err := r.build(t, req); err == nil {
		t.Error("a Dockerfile took the host's privileges")
	}
	req = dockerRequest(withProbe(map[string]string{"Dockerfile": "FROM scratch\nADD " + server.URL + "/x /x\n"}))
	if _, _, err := r.build(t, req); err == nil || !strings.Contains(err.Error(), "may not fetch") {
		t.Errorf("ADD fetched from the host: %v", err)
	}
}

func dockerFailures(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	head := "FROM scratch\nCOPY probe /probe\n" + shell
	for name, c := range map[string]struct {
		dockerfile string
		change     func(*maru.Build)
		kind       maru.Kind
		line, exit int
		want       string
	}{
		"a step":           {head + "RUN say one \\\n  say two \\\n  exit 7\n", nil, maru.Invalid, 4, 7, "Dockerfile:4: exit code 7\n     4 | RUN say one \\\n     5 |   say two \\\n     6 |   exit 7\n  > one\n  > two"},
		"memory":           {head + "RUN eat 900\n", nil, maru.Invalid, 4, 137, "exit code 137"},
		"syntax":           {head + "NONSENSE\n", nil, maru.Invalid, 4, 0, "unknown instruction"},
		"copy":             {head + "COPY missing /\n", nil, maru.Invalid, 4, 0, "missing"},
		"empty":            {"\n", nil, maru.Invalid, 0, 0, "empty"},
		"target":           {head, func(b *maru.Build) { b.Target = "none" }, maru.Invalid, 0, 0, "none"},
		"none":             {head, func(b *maru.Build) { b.Dockerfile = "Other" }, maru.Invalid, 0, 0, "there is no"},
		"a foreign syntax": {"# syntax=example.com/evil:1\n" + head, nil, maru.Unsupported, 0, 0, "example.com/evil"},
		"platform":         {head, func(b *maru.Build) { b.Platforms = []string{"linux/s390x"} }, maru.Unsupported, 0, 0, "s390x"},
		"network":          {head, func(b *maru.Build) { b.Network = "bridge" }, maru.Unsupported, 0, 0, "bridge"},
	} {
		t.Run(name, func(t *testing.T) {
			req := dockerRequest(withProbe(map[string]string{"Dockerfile": c.dockerfile}))
			if c.change != nil {
				c.change(&req.Build)
			}
			_, _, err := r.build(t, req)
			if maru.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Fatalf("%s: %v", maru.KindOf(err), err)
			}
			var failed *build.StepError
			if c.line > 0 && (!errors.As(err, &failed) || failed.Line != c.line || failed.ExitCode != c.exit) {
				t.Errorf("%+v", failed)
			}
		})
	}
}

func dockerInterrupted(t *testing.T, r *rig, withProbe func(map[string]string) string) {
	dir := withProbe(map[string]string{"Dockerfile": "FROM scratch\nCOPY probe /probe\n" + shell + "RUN say started sleep 1h\n"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	start := time.Now()
	_, err := r.client.Build(ctx, dockerRequest(dir), func(e build.Event) {
		if e.Log == "started" {
			cancel()
		}
	})
	if maru.KindOf(err) != maru.Interrupted || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
