package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func TestErrorsOnTheWire(t *testing.T) {
	for kind, code := range codes {
		if kind == maru.Internal {
			continue
		}
		err := maru.WithHint(fmt.Errorf("do it: %w", maru.Errorf(kind, "what and why")), "do that")
		wire, detail := onTheWire(t, t.Context(), err)
		if wire.Code() != code || wire.Message() != "do it: what and why" || detail.Kind != string(kind) || detail.Hint != "do that" || detail.Id != "" {
			t.Errorf("%s: %v, %v", kind, wire, detail)
		}
	}
}

func TestInternalErrorsStayBehind(t *testing.T) {
	for name, err := range map[string]error{
		"no kind": errors.New("secret path"), "internal": maru.Errorf(maru.Internal, "secret path"), "unknown kind": maru.Errorf("new", "secret path"),
	} {
		wire, detail := onTheWire(t, t.Context(), err)
		if wire.Code() != connect.CodeInternal || strings.Contains(wire.Message(), "secret") || detail.Kind != string(maru.Internal) ||
			detail.Id == "" || !strings.Contains(wire.Message(), detail.Id) {
			t.Errorf("%s: %v, %v", name, wire, detail)
		}
	}
}

func TestACallerThatLeftIsNoFault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if wire, detail := onTheWire(t, ctx, errors.New("broken pipe")); wire.Code() != connect.CodeCanceled || detail.Kind != string(maru.Interrupted) {
		t.Errorf("%v, %v", wire, detail)
	}
}

func onTheWire(t *testing.T, ctx context.Context, err error) (*connect.Error, *maruv1.ErrorDetail) {
	t.Helper()
	var logged bytes.Buffer
	got := wireError(ctx, slog.New(slog.NewTextHandler(&logged, nil)), "/procedure", err)
	var wire *connect.Error
	if !errors.As(got, &wire) || len(wire.Details()) != 1 {
		t.Fatalf("%v has no detail", got)
	}
	value, err := wire.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	detail, ok := value.(*maruv1.ErrorDetail)
	if !ok {
		t.Fatalf("the detail is %T", value)
	}
	if (detail.Id != "") != strings.Contains(logged.String(), "secret path") {
		t.Errorf("logged %q", logged.String())
	}
	return wire, detail
}

func TestPanicsAreInternalErrors(t *testing.T) {
	var logged bytes.Buffer
	s := &Server{log: slog.New(slog.NewTextHandler(&logged, nil)), closing: t.Context()}
	call := errorInterceptor{s}.WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) { panic("at the disco") })
	_, err := call(t.Context(), connect.NewRequest(&maruv1.InfoRequest{}))
	if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "disco") || !strings.Contains(logged.String(), "disco") {
		t.Errorf("%v; logged %q", err, logged.String())
	}
}

func TestNamesOfImages(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"shop", "my-shop", "my_shop", "my__shop", "my.-shop", "my---shop", "a.b_c-d"} {
		part := repositoryPart(name)
		if strings.Contains(part, "--") || strings.Contains(part, "__") || strings.Contains(part, ".-") {
			t.Errorf("%s becomes %s", name, part)
		}
		if other, twice := seen[part]; twice {
			t.Errorf("%s and %s both become %s", name, other, part)
		}
		seen[part] = name
	}
}

func TestRegistryOf(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx": "docker.io", "library/nginx:1": "docker.io", "ghcr.io/a/b": "ghcr.io", "localhost/x": "localhost", "host:5000/x": "host:5000",
	} {
		if got := registryOf(ref); got != want {
			t.Errorf("%s comes from %s, want %s", ref, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	s := &Server{cfg: Config{HTTPPort: 80, HTTPSPort: 8443}}
	got := s.routeAddresses([]maru.Route{{Host: "a.example"}, {Host: "*.example"}, {Path: "/api"}, {Host: "a.example"}})
	want := "http://a.example https://a.example:8443 http://localhost/api https://localhost:8443/api"
	if strings.Join(got, " ") != want {
		t.Errorf("routes are at %q", got)
	}
	got = publishAddresses([]maru.PublishedPort{
		{HostPort: 53, Target: maru.Port{Protocol: maru.UDP}}, {HostIP: "127.0.0.1", HostPort: 80, Target: maru.Port{Protocol: maru.TCP}},
		{HostIP: "::1", HostPort: 80, Target: maru.Port{Protocol: maru.TCP}}, {Target: maru.Port{Protocol: maru.TCP}},
	})
	if strings.Join(got, " ") != "localhost:53/udp 127.0.0.1:80/tcp [::1]:80/tcp" {
		t.Errorf("ports are at %q", got)
	}
}

func FuzzApp(f *testing.F) {
	f.Add([]byte(`{"name":"shop","services":{"web":{"kind":"service","image":"x","timeout":5000000000}}}`))
	f.Add([]byte(`{"name":"shop","volumes":{"v":{}},"services":{"web":{"kind":"service","image":"x","container":{"mounts":[{"kind":"volume","source":"v","target":"/v"}]}}}}`))
	scope := maru.Scope{Project: "default", Environment: "production", App: "shop"}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := structProto(map[string]any{})
		if s.UnmarshalJSON(data) != nil {
			return
		}
		app, err := fromStruct[maru.App](s)
		if err != nil || checkApp(scope, app) != nil {
			return
		}
		again, err := fromStruct[maru.App](structProto(app))
		if err != nil {
			t.Fatal(err)
		}
		if string(maru.Raw(again)) != string(maru.Raw(app)) {
			t.Fatalf("%s is read as %s", maru.Raw(app), maru.Raw(again))
		}
	})
}
