package traffic_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

// nextAddress gives each test instance a loopback address of its own.
var nextAddress atomic.Uint32

func freshAddress() netip.Addr {
	n := nextAddress.Add(1)
	return netip.AddrFrom4([4]byte{127, 77, byte(n >> 8), byte(n)})
}

// world is a proxy on loopback with what leads to it.
type world struct {
	*traffic.Proxy
	t       testing.TB
	http    string // address of the gateway
	mesh    string
	dns     string
	stop    func() // begins the end, and waits for it
	end     context.CancelCauseFunc
	version atomic.Uint64

	mu       sync.Mutex
	original map[string]netip.AddrPort // by the caller's address with port
}

func newWorld(t testing.TB, change func(*traffic.Config)) *world {
	t.Helper()
	w := &world{t: t, original: map[string]netip.AddrPort{}}
	cfg := traffic.Config{
		Linger: time.Millisecond, Drain: 5 * time.Second, Introduce: 50 * time.Millisecond, Original: w.originalOf,
		Listeners: map[string]net.Listener{"http": listen(t, "127.0.0.1:0"), "mesh4": listen(t, "127.0.0.1:0")},
		Packets:   map[string]net.PacketConn{},
		Ranges: maru.Ranges{
			InstancesV4: netip.MustParsePrefix("127.77.0.0/16"), InstancesV6: netip.MustParsePrefix("fd00:77::/64"),
			VirtualV4: netip.MustParsePrefix("127.78.0.0/16"), VirtualV6: netip.MustParsePrefix("fd00:78::/64"),
		},
	}
	cfg.Packets["dns-udp4"], cfg.Listeners["dns-tcp4"] = listenBoth(t)
	w.dns = cfg.Packets["dns-udp4"].LocalAddr().String()
	w.http, w.mesh = cfg.Listeners["http"].Addr().String(), cfg.Listeners["mesh4"].Addr().String()
	if change != nil {
		change(&cfg)
	}
	var err error
	if w.Proxy, err = traffic.New(cfg, testLog(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.end = cancel
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel(nil)
		if err := <-done; err != nil {
			t.Errorf("proxy: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func testLog(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listenBoth opens a port by UDP and TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close() // somebody has the same port by TCP
	}
	t.Fatal("no port is free by UDP and TCP")
	return nil, nil
}

func (w *world) originalOf(c net.Conn) (netip.AddrPort, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.original[c.RemoteAddr().String()]; ok {
		return a, nil
	}
	return netip.AddrPort{}, fmt.Errorf("no original destination of %s", c.RemoteAddr())
}

// set puts services in force, and takes those away that are named in removed.
func (w *world) set(services ...maru.ServiceTraffic) {
	w.t.Helper()
	if err := w.Update(maru.TrafficUpdate{Version: w.version.Add(1), Services: services}); err != nil {
		w.t.Fatal(err)
	}
}

// callFrom gives a client whose connections come from an instance and are on their way to a service.
func (w *world) callFrom(caller netip.Addr, to netip.AddrPort) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dialFrom(ctx, caller, to) }}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (w *world) dialFrom(ctx context.Context, caller netip.Addr, to netip.AddrPort) (net.Conn, error) {
	// The address is bound first, so that it is known where the connection goes before it comes.
	spec, err := net.ResolveTCPAddr("tcp", netip.AddrPortFrom(caller, freePort(w.t, caller)).String())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.original[spec.String()] = to
	w.mu.Unlock()
	return (&net.Dialer{LocalAddr: spec}).DialContext(ctx, "tcp", w.mesh)
}

func freePort(t testing.TB, a netip.Addr) uint16 {
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// instance is a server that stands for a container.
type instance struct {
	id     string
	addr   netip.Addr
	server *http.Server
	l      net.Listener
	stop   func()
}

const port = 8080

func startInstance(t testing.TB, id string, h http.Handler) *instance {
	t.Helper()
	return startAt(t, id, freshAddress(), h)
}

func startAt(t testing.TB, id string, addr netip.Addr, h http.Handler) *instance {
	t.Helper()
	i := &instance{id: id, addr: addr}
	var err error
	i.l, err = net.Listen("tcp", netip.AddrPortFrom(i.addr, port).String())
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	i.server = &http.Server{Handler: h, Protocols: protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = i.server.Serve(i.l)
	}()
	i.stop = sync.OnceFunc(func() {
		i.server.Close()
		<-done
	})
	t.Cleanup(i.stop)
	return i
}

func (i *instance) endpoint(release int) maru.Endpoint {
	return maru.Endpoint{Instance: i.id, Release: release, Addresses: maru.Addresses{V4: i.addr}, Ready: true}
}

// web is a service with a route for web.test.
func web(instances ...*instance) maru.ServiceTraffic {
	s := maru.ServiceTraffic{
		Service:        shop.Service("web"),
		VirtualAddress: maru.Addresses{V4: netip.MustParseAddr("127.78.0.10")},
		Networks:       map[string][]string{"default/production/shop/default": {"web"}},
		Ports:          []maru.Port{{Port: port, Protocol: maru.TCP, App: "http"}},
		Routes:         []maru.Route{{Host: "web.test"}},
	}
	for _, i := range instances {
		s.Endpoints = append(s.Endpoints, i.endpoint(1))
	}
	slices.SortFunc(s.Endpoints, func(a, b maru.Endpoint) int {
		if a.Instance < b.Instance {
			return -1
		}
		return 1
	})
	return s
}

// get asks the gateway for a host.
func (w *world) request(method, host, path string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://"+w.http+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = host
	return r
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func itoa(n int) string { return fmt.Sprint(n) }
