package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

const insideEnv = "MARU_NETWORK_TEST_INSIDE"

// TestMain runs the tests in network and mount namespaces of their own, so that they touch nothing of
// the machine. Each test has the machine to itself.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" && os.Getuid() == 0 {
		runtime.LockOSThread() // the other process ends with this thread
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err == nil {
			os.Exit(0)
		}
		fmt.Fprintln(os.Stderr, "no namespaces to test in:", err)
	} else if os.Getuid() == 0 {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("needs root, to make network namespaces")
	}
}

// host is a machine with a way out and a Network.
type host struct {
	*Network
	t       testing.TB
	outside string // path of the network namespace beyond the way out
}

var (
	machineV4 = netip.MustParseAddr("192.0.2.1")
	machineV6 = netip.MustParseAddr("2001:db8::1")
	outsideV4 = netip.MustParseAddr("192.0.2.2")
	outsideV6 = netip.MustParseAddr("2001:db8::2")
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newHost makes the machine's way out and sets the network up. All is taken down again at the end.
func newHost(t testing.TB, cfg Config) *host {
	t.Helper()
	h := newMachine(t)
	if cfg.RunDir == "" {
		cfg.RunDir = t.TempDir()
	}
	h.Network = newNetwork(t, cfg)
	check(t, h.Setup(t.Context()))
	t.Cleanup(func() { check(t, h.Teardown(context.Background())) })
	return h
}

func newNetwork(t testing.TB, cfg Config) *Network {
	t.Helper()
	n, err := New(cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	check(t, err)
	return n
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func newMachine(t testing.TB) *host {
	t.Helper()
	needRoot(t)
	h := &host{t: t, outside: filepath.Join(t.TempDir(), "outside")}
	lo, err := netlink.LinkByName("lo")
	check(t, err)
	check(t, netlink.LinkSetUp(lo))
	inside, ns, err := makeNetns(h.outside)
	check(t, err)
	t.Cleanup(func() { check(t, dropNamespace(h.outside)) })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}))
	own, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	check(t, err)
	t.Cleanup(func() {
		if l, err := own.LinkByName("up0"); err == nil {
			check(t, own.LinkDel(l))
		}
		own.Close()
		inside.Close()
		ns.Close()
	})
	for _, side := range []struct {
		h    *netlink.Handle
		ends []netip.Addr
	}{{own, []netip.Addr{machineV4, machineV6}}, {inside, []netip.Addr{outsideV4, outsideV6}}} {
		link, err := side.h.LinkByName("up0")
		check(t, err)
		for _, a := range side.ends {
			bits := 24
			if a.Is6() {
				bits = 64
			}
			p := ipNet(netip.PrefixFrom(a, bits))
			p.IP = a.AsSlice()
			check(t, side.h.AddrAdd(link, &netlink.Addr{IPNet: p, Flags: unix.IFA_F_NODAD}))
		}
		check(t, side.h.LinkSetUp(link))
	}
	link, err := own.LinkByName("up0")
	check(t, err)
	check(t, own.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: outsideV4.AsSlice()}))
	check(t, own.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: outsideV6.AsSlice()}))
	return h
}

// within runs f in a network namespace; "" is the machine's own. Sockets that f makes stay in it.
func within(t testing.TB, path string, f func()) {
	t.Helper()
	if path == "" {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	check(t, err)
	defer home.Close()
	there, err := os.Open(path)
	check(t, err)
	defer there.Close()
	check(t, unix.Setns(int(there.Fd()), unix.CLONE_NEWNET))
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	f()
}

// place is where something runs: an instance, the machine, or the outside.
type place struct {
	t    testing.TB
	name string
	ns   string
	maru.Addresses
	patience time.Duration // how long to wait for an answer; 0: long enough for any that comes
}

// hurried gives the place as one that does not wait for what should not come.
func (p place) hurried() place {
	p.patience = 200 * time.Millisecond
	return p
}

func (p place) wait() time.Duration {
	if p.patience == 0 {
		return 10 * time.Second
	}
	return p.patience
}

// serve answers on TCP and UDP ports with the place's name and who asked.
func (p place) serve(port uint16) {
	p.t.Helper()
	within(p.t, p.ns, func() {
		for _, network := range []string{"tcp4", "tcp6"} {
			l, err := net.Listen(network, fmt.Sprintf(":%d", port))
			check(p.t, err)
			p.t.Cleanup(func() { l.Close() })
			go p.accept(l)
		}
		for _, network := range []string{"udp4", "udp6"} {
			c, err := net.ListenPacket(network, fmt.Sprintf(":%d", port))
			check(p.t, err)
			p.t.Cleanup(func() { c.Close() })
			go func() {
				for b := make([]byte, 100); ; {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(p.answer(from)), from)
				}
			}()
		}
	})
}

func (p place) answer(from net.Addr) string {
	host, _, _ := net.SplitHostPort(from.String())
	return p.name + " " + host
}

// accept says who it is, then echoes.
func (p place) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := fmt.Fprintln(c, p.answer(c.RemoteAddr())); err == nil {
				_, _ = io.Copy(c, c)
			}
		}()
	}
}

// dial connects from the place.
func (p place) dial(network string, to netip.AddrPort) (c net.Conn, err error) {
	p.t.Helper()
	within(p.t, p.ns, func() {
		d := net.Dialer{Timeout: p.wait()}
		c, err = d.Dial(network, to.String())
	})
	return c, err
}

// ask gives what answers, as "NAME ADDRESS" where the address is how the asker was seen, or why not.
func (p place) ask(network string, addr netip.Addr, port uint16) string {
	p.t.Helper()
	c, err := p.dial(network, netip.AddrPortFrom(addr, port))
	if err != nil {
		return why(err)
	}
	defer c.Close()
	if tcp, ok := c.(*net.TCPConn); ok {
		check(p.t, tcp.SetLinger(0)) // the port can be used again at once
	}
	check(p.t, c.SetDeadline(time.Now().Add(p.wait())))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return why(err)
		}
	}
	b := make([]byte, 200)
	n, err := c.Read(b)
	if err != nil {
		return why(err)
	}
	return strings.TrimSpace(string(b[:n]))
}

func why(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	if os.IsTimeout(err) {
		return "timeout"
	}
	return err.Error()
}

// instance attaches one, which serves on port 5432 and 80.
func (h *host) instance(id string, spec Spec) place {
	h.t.Helper()
	addrs, err := h.Allocate()
	check(h.t, err)
	spec.Addresses = addrs
	path, err := h.Attach(h.t.Context(), id, spec)
	check(h.t, err)
	p := place{t: h.t, name: id, ns: path, Addresses: addrs}
	p.serve(5432)
	p.serve(80)
	return p
}

func (h *host) outsider() place {
	return place{t: h.t, name: "outside", ns: h.outside, Addresses: maru.Addresses{V4: outsideV4, V6: outsideV6}}
}

func (h *host) itself() place {
	return place{t: h.t, name: "machine", Addresses: maru.Addresses{V4: machineV4, V6: machineV6}}
}

var (
	shop  = maru.Scope{Project: "default", Environment: "production", App: "shop"}
	other = maru.Scope{Project: "default", Environment: "production", App: "other"}
)

func netOf(s maru.Scope, name string) maru.NetworkID { return maru.NetworkID{Scope: s, Network: name} }

func virtual(i int) maru.Addresses {
	r := maru.DefaultRanges()
	return maru.Addresses{V4: offsetAddr(r.VirtualV4, uint32(i)), V6: offsetAddr(r.VirtualV6, uint32(i))}
}

// traffic of a service on the default network with the ready instances.
func traffic(id maru.ServiceID, vip int, ready ...place) maru.ServiceTraffic {
	s := maru.ServiceTraffic{Service: id, VirtualAddress: virtual(vip), Networks: map[string][]string{netOf(id.Scope, "default").String(): {id.Service}}}
	for _, p := range ready {
		s.Endpoints = append(s.Endpoints, maru.Endpoint{Instance: p.name, Release: 1, Addresses: p.Addresses, Ready: true})
	}
	return s
}

func (h *host) update(full bool, services ...maru.ServiceTraffic) {
	h.t.Helper()
	check(h.t, h.Update(maru.TrafficUpdate{Full: full, Services: services}))
}

func specOf(s maru.ServiceID, networks ...string) Spec {
	spec := Spec{Service: s}
	if len(networks) == 0 {
		networks = []string{"default"}
	}
	for _, n := range networks {
		spec.Networks = append(spec.Networks, netOf(s.Scope, n))
	}
	return spec
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
		runtime.Gosched()
	}
}

// running runs the Network until the test ends, or until stop is called.
func (h *host) running() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		check(h.t, <-done)
	})
	h.t.Cleanup(stop)
	return stop
}
