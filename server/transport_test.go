package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/api/gen/maru/v1/maruv1connect"
)

// post asks as curl would, with JSON over HTTP/1.1.
func post(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), procedure, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://maru"+procedure, strings.NewReader(body))
	wantNil(t, err)
	req.Header.Set("Content-Type", "application/json")
	res, err := transport.RoundTrip(req)
	wantNil(t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	wantNil(t, err)
	return res.StatusCode, string(data)
}

func unixDialer(socket string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

func TestPlainJSON(t *testing.T) {
	r := start(t)
	app, err := json.Marshal(map[string]any{"scope": map[string]string{"app": "shop"}, "app": plainApp()})
	wantNil(t, err)
	status, body := post(t, unixDialer(r.socket), maruv1connect.AppServicePlanProcedure, string(app))
	if status != http.StatusOK || !strings.Contains(body, `"action":"create"`) {
		t.Fatalf("%d %s", status, body)
	}
	status, body = post(t, unixDialer(r.socket), maruv1connect.AppServiceStatusProcedure, `{"scope":{"app":"nope"}}`)
	if status != http.StatusNotFound || !strings.Contains(body, `"message":"app nope does not exist"`) {
		t.Fatalf("%d %s", status, body)
	}
}

func TestGRPC(t *testing.T) {
	r := start(t)
	for name, option := range map[string]connect.ClientOption{"grpc": connect.WithGRPC(), "grpc-web": connect.WithGRPCWeb()} {
		t.Run(name, func(t *testing.T) {
			c := maruv1connect.NewAppServiceClient(r.https(), r.url, option)
			_, err := c.Status(t.Context(), &maruv1.StatusRequest{Scope: &maruv1.Scope{App: "shop"}})
			if connect.CodeOf(err) != connect.CodeUnauthenticated {
				t.Fatal(err)
			}
			info, err := maruv1connect.NewSystemServiceClient(r.https(), r.url, option).Info(t.Context(), &maruv1.InfoRequest{})
			if err != nil || info.HttpPort != 8080 {
				t.Fatal(info, err)
			}
		})
	}
}

// TestOthersOnTheSocket connects as another user of the machine.
func TestOthersOnTheSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	r := start(t)
	const nobody = 65534
	wantNil(t, os.Chown(r.socket, nobody, nobody))
	for _, folder := range []string{filepath.Dir(r.socket), filepath.Dir(filepath.Dir(r.socket))} {
		wantNil(t, os.Chmod(folder, 0o755))
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		type dialed struct {
			conn net.Conn
			err  error
		}
		done := make(chan dialed)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its user
			if _, _, failed := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); failed != 0 {
				done <- dialed{nil, failed}
				return
			}
			conn, err := net.Dial("unix", r.socket)
			done <- dialed{conn, err}
		}()
		d := <-done
		return d.conn, d.err
	}
	status, body := post(t, dial, maruv1connect.AccessServiceWhoAmIProcedure, "{}")
	if status != http.StatusOK || !strings.Contains(body, `"role":"deploy"`) {
		t.Fatalf("%d %s", status, body)
	}
	status, body = post(t, dial, maruv1connect.AccessServiceAddGrantsProcedure, `{"abilities":["host"]}`)
	if status != http.StatusForbidden {
		t.Fatalf("%d %s", status, body)
	}
}

func BenchmarkDeployUnchanged(b *testing.B) {
	r := start(b)
	app := maru.App{Name: "shop", Services: map[string]maru.Service{}}
	for i := range 10 {
		s := plainApp().Services["web"]
		s.Container.Env = map[string]string{"N": maru.Itoa(i), "TEXT": strings.Repeat("x", 1000)}
		app.Services["s"+maru.Itoa(i)] = s
	}
	for b.Loop() {
		if _, err := r.deploy(r.local, r.request(app)); err != nil {
			b.Fatal(err)
		}
	}
}
