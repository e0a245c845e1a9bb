package build_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// builder does what the test says.
type builder struct {
	build func(ctx context.Context, req build.Request, progress func(build.Event)) (maru.Image, error)
	prune func(ctx context.Context, keep int64) (int64, error)
}

func (b builder) Build(ctx context.Context, req build.Request, progress func(build.Event)) (maru.Image, error) {
	return b.build(ctx, req, progress)
}

func (b builder) Prune(ctx context.Context, keep int64) (int64, error) { return b.prune(ctx, keep) }

func serve(t *testing.T, b builder) *build.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "b.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: build.Handler(b, slog.New(slog.NewTextHandler(t.Output(), nil)))}}
	server.Start()
	t.Cleanup(server.Close)
	return build.Dial(socket)
}

var request = build.Request{
	Name: "web", Secrets: map[string][]byte{"key": {0, 1, 255}}, Volumes: []string{"/data"}, Epoch: time.Unix(7, 0).UTC(),
	Credentials: map[string]build.Credentials{"docker.io": {Username: "ann", Password: "secret"}},
	Build:       maru.Build{Context: "/src", Target: "x", Secrets: []maru.BuildSecret{{ID: "key"}}, Args: map[string]string{"A": "1"}},
}

func TestBuildOverTheSocket(t *testing.T) {
	image := maru.Image{Reference: "docker.io/library/web@sha256:abc", Names: []string{"web"}, Created: time.Unix(5, 0).UTC()}
	events := []build.Event{
		{Step: 1, Name: "one", Status: build.StepStarted, Started: time.Unix(1, 0).UTC()},
		{Step: 1, Name: "one", Log: "a line"},
		{Step: 1, Name: "one", Status: build.StepDone, Started: time.Unix(1, 0).UTC(), Completed: time.Unix(2, 0).UTC()},
	}
	client := serve(t, builder{build: func(_ context.Context, req build.Request, progress func(build.Event)) (maru.Image, error) {
		if diff := cmp.Diff(request, req); diff != "" {
			t.Errorf("the request came as something else: %s", diff)
		}
		for _, e := range events {
			progress(e)
		}
		return image, nil
	}})
	var got []build.Event
	built, err := client.Build(t.Context(), request, func(e build.Event) { got = append(got, e) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(image, built); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Error(diff)
	}
	if _, err := client.Build(t.Context(), request, nil); err != nil {
		t.Error(err)
	}
}

func TestErrorsOverTheSocket(t *testing.T) {
	step := &build.StepError{Step: "RUN make", File: "Dockerfile", Line: 3, Source: []string{"RUN make"}, ExitCode: 2, Output: []string{"oh"}, Reason: "exit code 2"}
	for name, sent := range map[string]error{
		"step":     step.Err(),
		"hint":     maru.WithHint(maru.Errorf(maru.Denied, "refused"), "log in"),
		"internal": errors.New("oops"),
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, builder{
				build: func(context.Context, build.Request, func(build.Event)) (maru.Image, error) { return maru.Image{}, sent },
				prune: func(context.Context, int64) (int64, error) { return 0, sent },
			})
			_, err := client.Build(t.Context(), request, nil)
			_, pruned := client.Prune(t.Context(), 1)
			for _, got := range []error{err, pruned} {
				if got == nil || maru.KindOf(got) != maru.KindOf(sent) || maru.HintOf(got) != maru.HintOf(sent) || got.Error() != sent.Error() {
					t.Errorf("%v, hint %q", got, maru.HintOf(got))
				}
			}
			var back *build.StepError
			if errors.As(err, &back) != (name == "step") || back != nil && !reflect.DeepEqual(back, step) {
				t.Errorf("%+v", back)
			}
		})
	}
}

func TestPruneOverTheSocket(t *testing.T) {
	client := serve(t, builder{prune: func(_ context.Context, keep int64) (int64, error) { return keep / 2, nil }})
	if freed, err := client.Prune(t.Context(), 100); err != nil || freed != 50 {
		t.Error(freed, err)
	}
}

func TestClientGoesAway(t *testing.T) {
	cancelled := make(chan struct{})
	client := serve(t, builder{build: func(ctx context.Context, _ build.Request, progress func(build.Event)) (maru.Image, error) {
		progress(build.Event{Step: 1})
		<-ctx.Done()
		close(cancelled)
		return maru.Image{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client.Build(ctx, request, func(build.Event) { cancel() })
	if maru.KindOf(err) != maru.Interrupted {
		t.Errorf("%v", err)
	}
	<-cancelled
}

func TestBuilderIsAway(t *testing.T) {
	client := build.Dial(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := client.Build(t.Context(), request, nil); maru.KindOf(err) != maru.Unavailable || maru.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	dies := serve(t, builder{build: func(_ context.Context, _ build.Request, progress func(build.Event)) (maru.Image, error) {
		progress(build.Event{Step: 1})
		panic(http.ErrAbortHandler)
	}})
	if _, err := dies.Build(t.Context(), request, nil); maru.KindOf(err) != maru.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	with := func(change func(*build.Request)) build.Request {
		r := request
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		req  build.Request
		kind maru.Kind
		want string
	}{
		"complete":            {request, "", ""},
		"no name":             {with(func(r *build.Request) { r.Name = "" }), maru.Invalid, "image name"},
		"bad name":            {with(func(r *build.Request) { r.Name = "Web" }), maru.Invalid, "image name"},
		"digest":              {with(func(r *build.Request) { r.Name = "web@sha256:" + strings.Repeat("a", 64) }), maru.Invalid, "digest"},
		"bad tag":             {with(func(r *build.Request) { r.Build.Tags = []string{"a:b:c"} }), maru.Invalid, "image name"},
		"relative context":    {with(func(r *build.Request) { r.Build.Context = "src" }), maru.Invalid, "build context"},
		"git":                 {with(func(r *build.Request) { r.Build.Context = "https://example.com/x.git" }), "", ""},
		"git and Go":          {with(func(r *build.Request) { r.Build.Context = "git@example.com:x"; r.Build.Go = &maru.GoBuild{} }), maru.Unsupported, "Go program"},
		"Dockerfile and Go":   {with(func(r *build.Request) { r.Build.Dockerfile = "D"; r.Build.Go = &maru.GoBuild{} }), maru.Invalid, "both"},
		"Dockerfile outside":  {with(func(r *build.Request) { r.Build.Dockerfile = "../Dockerfile" }), maru.Unsupported, "not within"},
		"Dockerfile anywhere": {with(func(r *build.Request) { r.Build.Dockerfile = "/etc/passwd" }), maru.Unsupported, "not within"},
		"secret without":      {with(func(r *build.Request) { r.Secrets = nil }), maru.Invalid, "secret key"},
		"further context":     {with(func(r *build.Request) { r.Build.Contexts = map[string]string{"x": "/x", "y": "docker-image://alpine"} }), "", ""},
		"bad further context": {with(func(r *build.Request) { r.Build.Contexts = map[string]string{"x": "y"} }), maru.Invalid, "additional context x"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.req.Check()
			if maru.KindOf(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
	names, err := with(func(r *build.Request) { r.Build.Tags = []string{"registry.example.com/web:2"} }).Names()
	if want := "[docker.io/library/web:latest registry.example.com/web:2]"; err != nil || fmt.Sprint(names) != want {
		t.Errorf("%v, %v", names, err)
	}
}

// FuzzAnswer feeds the client what a builder could never send.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"event":{"step":1}}` + "\n" + `{"image":{"reference":"x"}}`))
	f.Add([]byte(`{"error":{"kind":"invalid","message":"m","step":{"line":1}}}`))
	f.Add([]byte(`{"freed":1}{"image":null}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		socket := filepath.Join(t.TempDir(), "b.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(answer)
		})}}
		server.Start()
		defer server.Close()
		image, err := build.Dial(socket).Build(t.Context(), request, func(build.Event) {})
		if err == nil && !json.Valid([]byte(maru.Raw(image))) {
			t.Error(image)
		}
		if err != nil && maru.KindOf(err) == "" {
			t.Error("an error without anything")
		}
	})
}
