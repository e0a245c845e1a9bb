package buildnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/internal/dump"
)

// alone runs the test in a process with a network and mounts of its own, and tells whether this is it.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("networks need root")
	}
	if os.Getenv("BUILDNET_ALONE") != "" {
		if err := loopbackUp(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "BUILDNET_ALONE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death of the thread that starts it would be the parent's
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// neighbourhood joins a further namespace to this one: here .1, there .2 of the prefix.
func neighbourhood(t *testing.T, link, prefix string) *os.File {
	t.Helper()
	other, err := newNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = link
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(other.Fd()))}))
	up := func(name, address string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}
	must(t, up(link, prefix+".1/24"))
	must(t, within(other, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		if err := up("eth0", prefix+".2/24"); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(prefix + ".1")})
	}))
	return other
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve answers HTTP with the caller's address, from within a namespace, or here with nil.
func serve(t *testing.T, namespace *os.File, address string) {
	t.Helper()
	var l net.Listener
	listen := func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}
	if namespace != nil {
		must(t, within(namespace, listen))
	} else {
		must(t, listen())
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Split(r.RemoteAddr, ":")[0])
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
}

// get asks from within a namespace, and gives what was answered.
func get(namespace *os.File, address string) (string, error) {
	var conn net.Conn
	err := within(namespace, func() (err error) {
		conn, err = net.DialTimeout("tcp", address, 300*time.Millisecond)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	body, err := io.ReadAll(conn)
	_, text, _ := strings.Cut(string(body), "\r\n\r\n")
	return text, err
}

func step(t *testing.T, p *Provider) *namespace {
	t.Helper()
	n, err := p.New(context.Background(), "", network.NamespaceOptions{})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n.(*namespace)
}

func TestSteps(t *testing.T) {
	if !alone(t) {
		return
	}
	outside := neighbourhood(t, "up0", "192.0.2")
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP("192.0.2.2")}))
	instance := neighbourhood(t, "in0", "10.210.7")
	serve(t, outside, "192.0.2.2:80")
	serve(t, instance, "10.210.7.2:80")
	serve(t, nil, "192.0.2.1:80")
	p := New(Config{
		Name: "tmaru", Range: netip.MustParsePrefix("10.212.0.0/16"), Run: t.TempDir(),
		Forbidden: []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16"), netip.MustParsePrefix("fd00::/8")},
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(t, dropForwarded("docker"))
	one, two := step(t, p), step(t, p)
	serve(t, two.file, "10.212.0.2:80")

	if got, err := get(one.file, "192.0.2.2:80"); err != nil || got != "192.0.2.1" {
		t.Errorf("the outside answers %q, %v", got, err)
	}
	if got, err := get(two.file, "10.212.0.2:80"); err != nil {
		t.Errorf("a step's own server answers %q, %v", got, err)
	}
	for what, address := range map[string]string{
		"the host": "192.0.2.1:80", "the host, as gateway": "169.254.0.1:80", "an instance": "10.210.7.2:80", "another step": "10.212.0.2:80",
		"the clouds' metadata": "169.254.169.254:80",
	} {
		if got, err := get(one.file, address); err == nil {
			t.Errorf("a step reached %s: %q", what, got)
		}
	}
	for who, from := range map[string]*os.File{"outside": outside, "instance": instance} {
		if got, err := get(from, "10.212.0.2:80"); err == nil {
			t.Errorf("the %s reached a step: %q", who, got)
		}
	}
	forged := within(one.file, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: single(netip.MustParseAddr("10.210.7.9"))})
	})
	must(t, forged)
	err := within(one.file, func() error {
		d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.210.7.9")}}
		conn, err := d.Dial("tcp", "192.0.2.2:80")
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err == nil {
		t.Error("a step took an instance's address")
	}
}

// dropForwarded makes a table as Docker has it.
func dropForwarded(name string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyIPv4})
	drop := nftables.ChainPolicyDrop
	c.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	return c.Flush()
}

func TestNames(t *testing.T) {
	if !alone(t) {
		return
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(conf, []byte("# none answers at the first\nnameserver 127.0.0.9\nnameserver 127.0.0.53\n"), 0o644))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	for _, transport := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		server := &dns.Server{Addr: "127.0.0.53:53", Net: transport, NotifyStartedFunc: func() { close(started) },
			Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg)
				m.SetReply(q)
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 7)})
				_ = w.WriteMsg(m)
			})}
		go func() { _ = server.ListenAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	p := New(Config{Name: "tmaru", Range: netip.MustParsePrefix("10.212.0.0/16"), Run: t.TempDir()}, slog.New(slog.DiscardHandler))
	one := step(t, p)
	q := new(dns.Msg)
	q.SetQuestion("example.org.", dns.TypeA)
	for _, transport := range []string{"udp", "tcp"} {
		var conn *dns.Conn
		must(t, within(one.file, func() (err error) {
			conn, err = (&dns.Client{Net: transport}).Dial(nameserver.String() + ":53")
			return err
		}))
		a, _, err := (&dns.Client{Net: transport}).ExchangeWithConn(q, conn)
		conn.Close()
		if err != nil || len(a.Answer) != 1 || a.Answer[0].(*dns.A).A.String() != "192.0.2.7" {
			t.Errorf("%s: %v, %v", transport, a, err)
		}
	}
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}},
		Mounts: []specs.Mount{{Destination: "/etc/resolv.conf", Source: "/x"}}}
	must(t, one.Set(spec))
	if data, err := os.ReadFile(spec.Mounts[0].Source); err != nil || !strings.Contains(string(data), nameserver.String()) {
		t.Errorf("resolv.conf: %q, %v", data, err)
	}
	if _, err := os.Stat(spec.Linux.Namespaces[0].Path); err != nil {
		t.Error(err)
	}
}

// TestNothingIsLeft kills nothing, but forgets a provider with a step, as a kill would.
func TestNothingIsLeft(t *testing.T) {
	if !alone(t) {
		return
	}
	cfg := Config{Name: "tmaru", Range: netip.MustParsePrefix("10.212.0.0/16"), Run: t.TempDir()}
	for range 2 {
		if _, err := New(cfg, slog.New(slog.DiscardHandler)).New(context.Background(), "", network.NamespaceOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	must(t, dropForwarded("other"))
	must(t, passOthers("tmaru"))
	left := func() (names []string) {
		links, err := dump.Whole(netlink.LinkList)
		must(t, err)
		for _, l := range links {
			if strings.Contains(l.Attrs().Name, "tmaru") {
				names = append(names, l.Attrs().Name)
			}
		}
		c, err := nftables.New()
		must(t, err)
		tables, err := c.ListTables()
		must(t, err)
		for _, table := range tables {
			if table.Name != "other" {
				names = append(names, table.Name)
				continue
			}
			rules, err := c.GetRules(table, &nftables.Chain{Name: "FORWARD", Table: table})
			must(t, err)
			for range rules {
				names = append(names, "a rule in other")
			}
		}
		return names
	}
	if got := left(); len(got) != 4 {
		t.Errorf("a new provider left the old one's step: %v", got)
	}
	must(t, errors.Join(Clean("tmaru"), Clean("tmaru")))
	if got := left(); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

func TestResolversIn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(file, []byte("search x\nnameserver 127.0.0.53\n;nameserver 1.1.1.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n"), 0o644))
	got := strings.Join(resolversIn(file), " ")
	if got != "127.0.0.53:53 [fe80::1%eth0]:53" {
		t.Error(got)
	}
	if got := resolversIn(file + "x"); got != nil {
		t.Error(got)
	}
}
