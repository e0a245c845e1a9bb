package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// refused tells whether the answer is a quick no. For UDP the kernel may send few of them.
func refused(network, answer string) bool {
	switch answer {
	case "ECONNREFUSED":
		return true
	case "EHOSTUNREACH", "EACCES", "timeout":
		return network == "udp"
	}
	return false
}

func TestReach(t *testing.T) {
	h := newHost(t, Config{})
	h.running()
	with := func(s maru.ServiceTraffic, networks ...string) maru.ServiceTraffic {
		s.Networks = map[string][]string{}
		for _, n := range networks {
			s.Networks[netOf(s.Service.Scope, n).String()] = []string{s.Service.Service}
		}
		return s
	}
	allow := func(s maru.ServiceTraffic, callers ...string) maru.ServiceTraffic {
		s.Allow = callers
		return s
	}
	isolated := specOf(shop.Service("vault"), "back")
	isolated.Isolated = true
	front := h.instance("front", specOf(shop.Service("front"), "front"))
	api := h.instance("api", specOf(shop.Service("api"), "front", "back"))
	db := h.instance("db", specOf(shop.Service("db"), "back"))
	vault := h.instance("vault", isolated)
	vault2 := h.instance("vault2", isolated)
	inner := h.instance("inner", specOf(shop.Service("inner"), "front", "back"))
	odb := h.instance("odb", specOf(other.Service("db"), "back"))
	fresh := h.instance("fresh", specOf(shop.Service("fresh"), "back")) // not in the traffic yet
	for _, p := range []place{h.itself(), h.outsider()} {
		p.serve(53)
		p.serve(5432)
		p.serve(maru.MeshPort)
	}
	within(t, h.outside, func() {
		output(t, "ip", "route", "replace", "10.210.0.0/15", "via", machineV4.String())
		output(t, "ip", "route", "replace", "fd6d:6172:7500::/48", "via", machineV6.String())
		output(t, "ip", "addr", "replace", "169.254.169.254/32", "dev", "up0")
	})
	notReady := traffic(shop.Service("idle"), 9, api)
	notReady.Endpoints[0].Ready = false
	h.update(true,
		with(traffic(shop.Service("front"), 10, front), "front"),
		with(traffic(shop.Service("api"), 11, api), "front", "back"),
		with(traffic(shop.Service("db"), 12, db), "back"),
		allow(with(traffic(shop.Service("vault"), 13, vault, vault2), "back"), "api"),
		allow(with(traffic(shop.Service("inner"), 14, inner), "front", "back"), "gateway"),
		with(traffic(other.Service("db"), 15, odb), "back"),
		with(notReady, "front"),
	)
	host, out := h.itself(), h.outsider()
	seen := func(name string, from place) func(family) string {
		return func(f family) string { return name + " " + byFamily(from.Addresses, f).String() }
	}
	asHost := func(name string) func(family) string {
		return func(f family) string { return name + " " + byFamily(h.Host(), f).String() }
	}
	quickNo := func(family) string { return "no" }
	silence := func(family) string { return "timeout" }
	for _, tt := range []struct {
		name string
		from place
		to   maru.Addresses
		port uint16
		want func(family) string
	}{
		{"shared network", api, db.Addresses, 5432, seen("db", api)},
		{"shared network, virtual", api, virtual(12), 5432, seen("db", api)},
		{"one of two shared networks", front, virtual(11), 5432, seen("api", front)},
		{"no shared network", front, db.Addresses, 5432, quickNo},
		{"no shared network, virtual", front, virtual(12), 5432, quickNo},
		{"another app's", api, odb.Addresses, 5432, quickNo},
		{"another app's, virtual", api, virtual(15), 5432, quickNo},
		{"of another app's", odb, virtual(12), 5432, quickNo},
		{"itself", db, db.Addresses, 5432, seen("db", db)},
		{"itself, virtual", db, virtual(12), 5432, asHost("db")},
		{"allowed", api, vault.Addresses, 5432, seen("vault", api)},
		{"not allowed", db, vault.Addresses, 5432, quickNo},
		{"not allowed, virtual", db, virtual(13), 5432, quickNo},
		{"own service, though not in the list", vault2, vault.Addresses, 5432, seen("vault", vault2)},
		{"gateway only", api, inner.Addresses, 5432, quickNo},
		{"gateway only, virtual", api, virtual(14), 5432, quickNo},
		{"gateway only, from the proxy", host, inner.Addresses, 5432, asHost("inner")},
		{"not in the traffic yet, out", fresh, virtual(12), 5432, seen("db", fresh)},
		{"not in the traffic yet, in", db, fresh.Addresses, 5432, quickNo},
		{"not ready", front, virtual(9), 5432, quickNo},
		{"no such service", front, virtual(99), 5432, quickNo},
		{"closed port", api, virtual(12), 5433, quickNo},
		{"outside", api, out.Addresses, 5432, seen("outside", host)},
		{"outside, isolated", vault, out.Addresses, 5432, quickNo},
		{"metadata", api, maru.Addresses{V4: netip.MustParseAddr("169.254.169.254")}, 5432, quickNo},
		{"name server", api, h.Host(), 53, seen("machine", api)},
		{"name server, isolated", vault, h.Host(), 53, seen("machine", vault)},
		{"another port of the host", api, h.Host(), 5432, quickNo},
		{"the mesh directly", api, h.Host(), maru.MeshPort, quickNo},
		{"another address of the host", api, host.Addresses, 53, quickNo},
		{"from outside", out, db.Addresses, 5432, silence},
		{"from outside, virtual", out, virtual(12), 5432, silence},
		{"from outside, host", out, h.Host(), 53, silence},
		{"from the host", host, db.Addresses, 5432, asHost("db")},
	} {
		for _, f := range families {
			for _, network := range []string{"tcp", "udp"} {
				to := byFamily(tt.to, f)
				if !to.IsValid() {
					continue
				}
				from, want := tt.from, tt.want(f)
				if want == "no" && network == "udp" || want == "timeout" {
					from = from.hurried()
				}
				got := from.ask(network, to, tt.port)
				if got != want && !(want == "no" && refused(network, got)) {
					t.Errorf("%s, %s, IPv%d: %s, want %s", tt.name, network, f, got, want)
				}
			}
		}
	}
	// A service that moved to another network is cut off at once.
	h.update(false, with(traffic(shop.Service("db"), 12, db), "elsewhere"))
	if got := api.ask("tcp", virtual(12).V4, 5432); got != "ECONNREFUSED" {
		t.Errorf("after it moved: %s", got)
	}
	h.update(false, with(traffic(shop.Service("db"), 12, db), "back"))
	if got := api.ask("tcp", virtual(12).V4, 5432); got != "db "+api.V4.String() {
		t.Errorf("after it came back: %s", got)
	}
}

// An instance can't use an address that is not its own, whatever it does in its namespace.
func TestSpoofing(t *testing.T) {
	h := newHost(t, Config{})
	web, db := shop.Service("web"), shop.Service("db")
	w, d, o := h.instance("web-1-a", specOf(web)), h.instance("db-1-a", specOf(db)), h.instance("other-1-a", specOf(other.Service("web")))
	h.update(true, traffic(web, 10, w), traffic(db, 11, d), traffic(other.Service("web"), 12, o))
	h.itself().serve(53)
	for _, f := range families {
		for _, stolen := range []netip.Addr{byFamily(w.Addresses, f), byFamily(virtual(10), f), byFamily(h.Host(), f), byFamily(h.outsider().Addresses, f)} {
			got := make(chan string, 2)
			within(t, o.ns, func() {
				output(t, "ip", "addr", "replace", stolen.String(), "dev", "lo")
				defer output(t, "ip", "addr", "del", stolen.String(), "dev", "lo")
				for _, to := range []netip.AddrPort{
					netip.AddrPortFrom(byFamily(d.Addresses, f), 5432), netip.AddrPortFrom(byFamily(h.Host(), f), 53),
				} {
					dialer := net.Dialer{Timeout: 200 * time.Millisecond, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(stolen, 0))}
					c, err := dialer.Dial("tcp", to.String())
					if err == nil {
						c.Close()
						got <- "connected"
						continue
					}
					got <- why(err)
				}
			})
			for range 2 {
				if answer := <-got; answer == "connected" {
					t.Errorf("as %v: %s", stolen, answer)
				}
			}
		}
	}
}

// ports asks how often who answers new connections.
func (p place) poll(n int, network string, addr netip.Addr) map[string]int {
	p.t.Helper()
	seen := map[string]int{}
	for range n {
		name, _, _ := strings.Cut(p.ask(network, addr, 5432), " ")
		seen[name]++
	}
	return seen
}

func TestBalancing(t *testing.T) {
	h := newHost(t, Config{})
	web, db := shop.Service("web"), shop.Service("db")
	w := h.instance("web-1-a", specOf(web))
	old, b, c := h.instance("old", specOf(db)), h.instance("b", specOf(db)), h.instance("c", specOf(db))
	s := traffic(db, 11, old, b, c)
	s.Endpoints[1].Release, s.Endpoints[2].Release = 2, 2
	h.update(true, traffic(web, 10, w), s)
	const n = 300
	near := func(what string, seen map[string]int, want map[string]int) {
		t.Helper()
		for _, name := range []string{"old", "b", "c"} {
			if d := seen[name] - want[name]; d < -60 || d > 60 || (want[name] == 0) != (seen[name] == 0) {
				t.Errorf("%s: %v, want about %v", what, seen, want)
				return
			}
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, f := range families {
			what := fmt.Sprint(network, " IPv", f)
			settle := func() { // a port that is used again would go on with the flow it had
				h.update(false, s)
				_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, map[family]netlink.InetFamily{four: unix.AF_INET, six: unix.AF_INET6}[f], everyFlow{})
				check(t, err)
			}
			s.Serving = nil
			settle()
			near(what+" evenly", w.poll(n, network, byFamily(virtual(11), f)), map[string]int{"old": 100, "b": 100, "c": 100})
			s.Serving = []maru.Weight{{Release: 1, Weight: 80}, {Release: 2, Weight: 20}}
			settle()
			near(what+" weighted", w.poll(n, network, byFamily(virtual(11), f)), map[string]int{"old": 240, "b": 30, "c": 30})
			s.Serving = []maru.Weight{{Release: 2, Weight: 1}}
			settle()
			near(what+" one release", w.poll(n, network, byFamily(virtual(11), f)), map[string]int{"b": 150, "c": 150})
		}
	}

	open, err := w.dial("tcp", netip.AddrPortFrom(virtual(11).V4, 5432))
	check(t, err)
	defer open.Close()
	greeting := make([]byte, 100)
	_, err = open.Read(greeting)
	check(t, err)
	s.Serving = nil
	for i := range s.Endpoints { // a draining one keeps what it has and gets nothing new
		s.Endpoints[i].Draining = s.Endpoints[i].Instance != "old"
	}
	h.update(false, s)
	near("draining", w.poll(50, "tcp", virtual(11).V4), map[string]int{"old": 50})
	_, err = open.Write([]byte("x"))
	check(t, err)
	check(t, open.SetReadDeadline(time.Now().Add(w.wait())))
	if _, err := open.Read(greeting); err != nil {
		t.Errorf("the connection to a draining instance: %v", err)
	}
}

type everyFlow struct{}

func (everyFlow) MatchConntrackFlow(*netlink.ConntrackFlow) bool { return true }

// originalDestination is where a connection that was led to us was meant for.
func originalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var errno syscall.Errno
	cerr := raw.Control(func(fd uintptr) {
		if c.LocalAddr().(*net.TCPAddr).IP.To4() != nil {
			var v4 *unix.IPv6Mreq
			if v4, err = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); err == nil {
				m := v4.Multiaddr
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m[4:8])), uint16(m[2])<<8|uint16(m[3]))
			}
			return
		}
		var v6 *unix.IPv6MTUInfo
		if v6, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST); err == nil {
			port := v6.Addr.Port
			to = netip.AddrPortFrom(netip.AddrFrom16(v6.Addr.Addr), port<<8|port>>8)
		}
	})
	if cerr != nil || errno != 0 {
		return to, cerr
	}
	return to, err
}

func TestMesh(t *testing.T) {
	h := newHost(t, Config{})
	web, api := shop.Service("web"), shop.Service("api")
	w, a := h.instance("web-1-a", specOf(web)), h.instance("api-1-a", specOf(api))
	s := traffic(api, 11, a)
	s.Ports = []maru.Port{
		{Port: 80, Protocol: maru.TCP, App: "http"}, {Port: 81, Protocol: maru.TCP, App: "h2c"}, {Port: 82, App: "grpc"},
		{Port: 5432, Protocol: maru.TCP, App: "tcp"}, {Port: 5432, Protocol: maru.UDP, App: "http"}, {Port: 5433, Protocol: maru.TCP},
	}
	h.update(true, traffic(web, 10, w), s)
	var listeners sync.WaitGroup
	defer listeners.Wait()
	for _, host := range h.hosts() {
		l, err := net.Listen("tcp", netip.AddrPortFrom(host, maru.MeshPort).String())
		check(t, err)
		defer l.Close()
		listeners.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				to, err := originalDestination(c.(*net.TCPConn))
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintln(c, "mesh", to, host, err)
				c.Close()
			}
		})
	}
	for _, f := range families {
		vip := byFamily(virtual(11), f)
		self := byFamily(w.Addresses, f).String()
		viaMesh := func(port uint16) string {
			return fmt.Sprintf("mesh %v %s <nil>", netip.AddrPortFrom(vip, port), self)
		}
		for port, want := range map[uint16]string{80: viaMesh(80), 81: viaMesh(81), 82: viaMesh(82), 5432: "api-1-a " + self, 5433: "ECONNREFUSED"} {
			if got := w.ask("tcp", vip, port); got != want {
				t.Errorf("IPv%d port %d: %s, want %s", f, port, got, want)
			}
		}
		if got := w.ask("udp", vip, 5432); got != "api-1-a "+self {
			t.Errorf("IPv%d UDP: %s", f, got)
		}
		if got := w.ask("tcp", byFamily(a.Addresses, f), 80); got != "api-1-a "+self {
			t.Errorf("IPv%d an instance's own address: %s", f, got)
		}
	}
	s.Endpoints = nil // the proxy can tell why there is none, or wait for one
	h.update(false, s)
	if got := w.ask("tcp", virtual(11).V4, 80); !strings.HasPrefix(got, "mesh ") {
		t.Errorf("without an endpoint: %s", got)
	}
	if got := w.ask("tcp", virtual(11).V4, 5432); got != "ECONNREFUSED" {
		t.Errorf("without an endpoint, not HTTP: %s", got)
	}
	s.Allow = []string{"web"}
	s.AllowCalls = map[string][]maru.CallRule{"web": {{Methods: []string{"GET"}}}}
	h.update(false, s)
	if got := w.ask("tcp", virtual(11).V4, 80); !strings.HasPrefix(got, "mesh ") {
		t.Errorf("limited, by the proxy: %s", got)
	}
	s.Allow = []string{"gateway"}
	h.update(false, s)
	if got := w.ask("tcp", virtual(11).V4, 80); got != "ECONNREFUSED" {
		t.Errorf("not allowed: %s", got)
	}
}
