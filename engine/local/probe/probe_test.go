package probe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/probe"
)

func addressOf(t *testing.T, listener net.Listener) netip.AddrPort {
	t.Helper()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestAsk(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.Host != "shop.example.com" || r.Header.Get("X-Probe") != "yes" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/moved":
			http.Redirect(w, r, "/gone", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			http.Error(w, "  not\nfeeling well  ", http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(web.Close)
	health := serveGRPC(t)
	closed := listen(t)
	silent := addressOf(t, closed)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	at := addressOf(t, web.Listener)
	for _, c := range []struct {
		name  string
		probe maru.Probe
		want  string
		ok    bool
	}{
		{"http", maru.Probe{HTTP: &maru.HTTPProbe{Path: "/ok", Headers: map[string]string{"host": "shop.example.com", "X-Probe": "yes"}}}, "GET /ok on port WEB answered 200", true},
		{"redirect", maru.Probe{HTTP: &maru.HTTPProbe{Path: "moved"}}, "GET /moved on port WEB answered 302", true},
		{"unwell", maru.Probe{HTTP: &maru.HTTPProbe{Path: "/healthz"}}, "GET /healthz on port WEB answered 503: not feeling well", false},
		{"slow", maru.Probe{HTTP: &maru.HTTPProbe{Path: "/slow"}, Timeout: 20 * time.Millisecond}, "GET /slow on port WEB did not answer within 20ms", false},
		{"refused", maru.Probe{HTTP: &maru.HTTPProbe{Port: silent.Port(), Path: "/"}}, "GET / on port SILENT refuses connections", false},
		{"not http", maru.Probe{HTTP: &maru.HTTPProbe{Port: health.Port(), Path: "/"}}, "GET / on port GRPC does not speak HTTP", false},
		{"tcp", maru.Probe{TCP: at.Port()}, "port WEB accepts connections", true},
		{"tcp, default port", maru.Probe{}, "port WEB accepts connections", true},
		{"tcp refused", maru.Probe{TCP: silent.Port()}, "port SILENT refuses connections", false},
		{"grpc", maru.Probe{GRPC: &maru.GRPCProbe{Port: health.Port()}}, "gRPC health check on port GRPC answered SERVING", true},
		{"grpc service down", maru.Probe{GRPC: &maru.GRPCProbe{Port: health.Port(), Service: "down"}}, "gRPC health check on port GRPC answered NOT_SERVING", false},
		{"grpc service unknown", maru.Probe{GRPC: &maru.GRPCProbe{Port: health.Port(), Service: "what"}}, "gRPC health check on port GRPC answered NotFound: unknown service", false},
		{"exec", maru.Probe{Exec: []string{"check", "it"}}, `"check it" exited with code 0: fine`, true},
		{"exec fails", maru.Probe{Exec: []string{"fail"}}, `"fail" exited with code 3: fine`, false},
		{"exec can't", maru.Probe{Exec: []string{"crash"}}, `"crash" could not run: no such file`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			names := strings.NewReplacer("port WEB", "port "+itoa(at.Port()), "port SILENT", "port "+itoa(silent.Port()), "port GRPC", "port "+itoa(health.Port()))
			target := probe.Target{Address: at.Addr(), Port: at.Port(), Exec: func(_ context.Context, args []string) (int, string, error) {
				switch args[0] {
				case "fail":
					return 3, "fine", nil
				case "crash":
					return 0, "", errors.New("no such file")
				}
				return 0, "fine\n", nil
			}}
			answer, ok := probe.Ask(t.Context(), c.probe, target)
			if want := names.Replace(c.want); answer != want || ok != c.ok {
				t.Errorf("%q, %v; want %q, %v", answer, ok, want, c.ok)
			}
		})
	}
}

func itoa(port uint16) string { return maru.Itoa(int(port)) }

func serveGRPC(t *testing.T) netip.AddrPort {
	t.Helper()
	listener := listen(t)
	server, service := grpc.NewServer(), health.NewServer()
	service.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return addressOf(t, listener)
}

func TestRecognize(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	both := httptest.NewUnstartedServer(http.NotFoundHandler())
	both.Config.Protocols = new(http.Protocols)
	both.Config.Protocols.SetHTTP1(true)
	both.Config.Protocols.SetUnencryptedHTTP2(true)
	both.Start()
	t.Cleanup(both.Close)
	for name, c := range map[string]struct {
		at   netip.AddrPort
		want string
	}{
		"http/1":        {addressOf(t, plain.Listener), probe.HTTP1},
		"http/2":        {addressOf(t, both.Listener), probe.H2C},
		"grpc":          {serveGRPC(t), probe.H2C},
		"speaks first":  {talk(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail ready\r\n") }), probe.TCP},
		"says nothing":  {talk(t, func(net.Conn) {}), probe.TCP},
		"echoes":        {talk(t, func(c net.Conn) { _, _ = io.Copy(c, c) }), probe.TCP},
		"closes":        {talk(t, func(c net.Conn) { _ = c.Close() }), probe.TCP},
		"refuses":       {netip.MustParseAddrPort("127.0.0.1:1"), probe.TCP},
		"redis":         {talk(t, func(c net.Conn) { answer(c, "-ERR unknown command\r\n") }), probe.TCP},
		"http by force": {talk(t, func(c net.Conn) { answer(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }), probe.HTTP1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := probe.Recognize(t.Context(), c.at); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// answer answers whatever comes.
func answer(c net.Conn, text string) {
	if _, err := c.Read(make([]byte, 1024)); err == nil {
		_, _ = io.WriteString(c, text)
	}
}

// talk serves connections, which stay open until the test ends.
func talk(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go serve(conn)
		}
	}()
	return addressOf(t, listener)
}

// report is what a watcher told.
type report struct {
	ready  bool
	why    string
	failed string
}

func TestWatcher(t *testing.T) {
	var mu sync.Mutex
	code, asked := 1, 0
	set := func(c int) {
		mu.Lock()
		defer mu.Unlock()
		code = c
	}
	reports := make(chan report, 100)
	health := maru.Probe{Exec: []string{"check"}, Interval: 5 * time.Millisecond, Failures: 3, StartPeriod: time.Minute}
	w := probe.Watcher{
		Probes: maru.Probes{Ready: &health, Live: &health}, Started: time.Now(),
		Target: probe.Target{Exec: func(context.Context, []string) (int, string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return code, "", nil
		}},
		Changed: func(ready bool, why string) { reports <- report{ready: ready, why: why} },
		Failed:  func(answer string) { reports <- report{failed: answer} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	const answer = `"check" exited with code 1`
	if got := <-reports; got != (report{why: answer}) {
		t.Errorf("before it is ready: %+v", got)
	}
	set(0)
	if got := <-reports; got != (report{ready: true}) {
		t.Errorf("when it is ready: %+v", got)
	}
	set(1)
	if got := <-reports; got != (report{why: answer}) {
		t.Errorf("when it is not any more: %+v", got)
	}
	if got := <-reports; got != (report{failed: answer}) {
		t.Errorf("when it has failed: %+v", got)
	}
	<-done
	cancel()
}

func TestWatcherStopsWhenReadyOnce(t *testing.T) {
	listener := listen(t)
	at := addressOf(t, listener)
	became := false
	probe.Watcher{
		Probes: maru.Probes{Ready: &maru.Probe{TCP: at.Port()}}, Once: true, Started: time.Now(), Target: probe.Target{Address: at.Addr()},
		Changed: func(ready bool, _ string) { became = ready },
	}.Run(t.Context())
	if !became {
		t.Error("it never became ready")
	}
}
