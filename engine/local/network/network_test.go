package network

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return stdout.String()
}

func ruleset(t testing.TB) string { return output(t, "nft", "list", "ruleset") }

// nft loads rules as other programs write them.
func nft(t testing.TB, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// traces is all that could be left of a Network on a machine.
func traces(t testing.TB, n *Network) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(ruleset(t))
	for _, args := range []string{"-o addr", "-4 route show table all", "-6 route show table all", "-o link", "neigh show nud permanent"} {
		fmt.Fprintf(&b, "ip %s:\n", args)
		for line := range strings.Lines(output(t, "ip", strings.Fields(args)...)) {
			if !strings.Contains(line, "multicast") && !strings.Contains(line, "dev up0 table local") {
				line, _, _ = strings.Cut(line, " proto kernel metric 256 pref medium")
				b.WriteString(strings.ReplaceAll(strings.TrimSpace(line), " tentative", "") + "\n")
			}
		}
	}
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/up0/accept_ra", "ipv6/conf/default/accept_ra"} {
		value, err := readSysctl(name)
		check(t, err)
		fmt.Fprintln(&b, name, value)
	}
	check(t, filepath.WalkDir(n.cfg.RunDir, func(path string, _ fs.DirEntry, err error) error {
		fmt.Fprintln(&b, path)
		return err
	}))
	return b.String()
}

func TestTeardownLeavesNothing(t *testing.T) {
	h := newMachine(t)
	h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
	before := traces(t, h.Network)
	check(t, h.Setup(t.Context()))
	nftDocker(t)
	check(t, h.Setup(t.Context()))
	web := h.instance("web-1-a", specOf(shop.Service("web")))
	h.instance("web-1-b", withUsers(specOf(shop.Service("web"))))
	h.instance("web-1-d", withUsers(specOf(shop.Service("web"))))
	h.update(true, traffic(shop.Service("web"), 10, web))
	check(t, h.Detach(t.Context(), "web-1-b"))
	nft(t, "flush ruleset")
	check(t, h.Teardown(t.Context()))
	if diff := cmp.Diff(before, traces(t, h.Network)); diff != "" {
		t.Errorf("left over:\n%s", diff)
	}
	check(t, h.Setup(t.Context())) // and all over again
	h.instance("web-1-c", specOf(shop.Service("web")))
	// Another process takes it down.
	check(t, newNetwork(t, Config{RunDir: h.cfg.RunDir}).Teardown(t.Context()))
	if diff := cmp.Diff(before, traces(t, h.Network)); diff != "" {
		t.Errorf("left over by another:\n%s", diff)
	}
}

func TestTeardownKeepsForwardingThatOthersNeed(t *testing.T) {
	h := newMachine(t)
	h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
	t.Cleanup(func() {
		nft(t, "flush ruleset")
		check(t, writeSysctl("ipv6/conf/all/forwarding", "0"))
		check(t, writeSysctl("ipv4/ip_forward", "0"))
	})
	check(t, h.Setup(t.Context()))
	nftDocker(t)
	check(t, h.Teardown(t.Context()))
	if value, err := readSysctl("ipv4/ip_forward"); err != nil || value != "1" {
		t.Errorf("forwarding is %q, %v", value, err)
	}
	if rules := ruleset(t); strings.Contains(rules, "maru") {
		t.Errorf("left over:\n%s", rules)
	}
}

func TestSetupRefusesRangesInUse(t *testing.T) {
	for what, args := range map[string]string{
		"address":         "addr add 10.210.3.4/32 dev lo",
		"address in v6":   "addr add fd6d:6172:7500:2::9/128 dev lo",
		"route":           "route add 10.208.0.0/13 via 192.0.2.2",
		"route elsewhere": "route add 10.211.7.0/24 via 192.0.2.2 table 77",
	} {
		t.Run(what, func(t *testing.T) {
			h := newMachine(t)
			output(t, "ip", strings.Fields(args)...)
			t.Cleanup(func() { output(t, "ip", strings.Fields(strings.Replace(args, " add ", " del ", 1))...) })
			n := newNetwork(t, Config{RunDir: t.TempDir()})
			err := n.Setup(t.Context())
			if maru.KindOf(err) != maru.Conflict || maru.HintOf(err) == "" {
				t.Fatalf("got %v", err)
			}
			t.Log(err)
			if rules := ruleset(h.t); rules != "" {
				t.Errorf("it made a table:\n%s", rules)
			}
		})
	}
}

// withUsers gives the spec of an instance with users of its own.
func withUsers(spec Spec) Spec {
	spec.Users = 1 << 31
	return spec
}

// A network that a user namespace owns is one like the others, and kept as long as the spec is the same.
func TestUsers(t *testing.T) {
	h := newHost(t, Config{})
	spec := withUsers(specOf(shop.Service("web")))
	web := h.instance("web-1-a", spec)
	if got := h.itself().ask("tcp", web.V4, 80); got != "web-1-a 10.211.0.1" {
		t.Errorf("it answers %s", got)
	}
	ns, err := os.Open(h.netnsPath("web-1-a"))
	check(t, err)
	defer ns.Close()
	owner, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	check(t, err)
	defer unix.Close(owner)
	var got, want unix.Stat_t
	check(t, unix.Fstat(owner, &got))
	check(t, unix.Stat(h.UserNamespace("web-1-a"), &want))
	if got.Ino != want.Ino {
		t.Errorf("namespace %d owns the network, not %d", got.Ino, want.Ino)
	}

	spec.Addresses = web.Addresses
	identity := func() uint64 {
		_, err := h.Attach(t.Context(), "web-1-a", spec)
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Stat(h.netnsPath("web-1-a"), &st))
		return st.Ino
	}
	before := identity()
	if again := identity(); again != before {
		t.Errorf("attached again: network %d, before %d", again, before)
	}
	check(t, dropNamespace(h.UserNamespace("web-1-a")))
	if again := identity(); again == before {
		t.Error("a network without its user namespace was kept")
	}
	spec.Users = 0
	identity()
	if isNamespace(h.UserNamespace("web-1-a")) {
		t.Error("the user namespace is still there")
	}
}

// What a crash left is found by the next process, and swept.
func TestSweep(t *testing.T) {
	h := newHost(t, Config{})
	kept := h.instance("web-1-a", specOf(shop.Service("web")))
	before := traces(t, h.Network)
	h.instance("web-1-b", withUsers(specOf(shop.Service("web"))))
	nobody := h.instance("web-1-c", specOf(shop.Service("web")))
	check(t, writeFile(h.recordPath("web-1-d"), attachment{ID: "web-1-d"}))
	check(t, writeFile(h.recordPath("web-1-e")+".new", 1))
	_, ns, err := makeNetns(h.netnsPath("web-1-f"))
	check(t, err)
	check(t, ns.Close())
	_, ns, err = makeOwnedNetns(h.netnsPath("web-1-g"), h.UserNamespace("web-1-g"), 1<<31)
	check(t, err)
	check(t, ns.Close())
	check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "maru-stray"}, PeerName: "stray"}))

	next := newNetwork(t, Config{RunDir: h.cfg.RunDir})
	check(t, next.Setup(t.Context()))
	check(t, next.Sweep(t.Context(), []string{"web-1-a"}))
	if diff := cmp.Diff(before, traces(t, next)); diff != "" {
		t.Errorf("left over:\n%s", diff)
	}
	if got := h.itself().ask("tcp", kept.V4, 80); got != "web-1-a 10.211.0.1" {
		t.Errorf("what is kept answers %s", got)
	}
	if got := h.itself().hurried().ask("tcp", nobody.V4, 80); got != "EHOSTUNREACH" {
		t.Errorf("what is gone answers %s", got)
	}
	h.Network = next // for the teardown
}

// A new process interrupts nothing: what an earlier one did goes on until the first full update.
func TestRestart(t *testing.T) {
	h := newHost(t, Config{})
	web, db := shop.Service("web"), shop.Service("db")
	w, d := h.instance("web-1-a", specOf(web)), h.instance("db-1-a", specOf(db))
	h.update(true, traffic(web, 10, w), traffic(db, 11, d))
	open, err := w.dial("tcp", netip.AddrPortFrom(virtual(11).V4, 5432))
	check(t, err)
	defer open.Close()

	next := newNetwork(t, Config{RunDir: h.cfg.RunDir})
	h.Network = next
	check(t, next.Setup(t.Context()))
	if got := w.ask("tcp", virtual(11).V4, 5432); got != "db-1-a "+w.V4.String() {
		t.Errorf("before the first update: %s", got)
	}
	if err := next.Update(maru.TrafficUpdate{}); maru.KindOf(err) != maru.Conflict {
		t.Errorf("the first update is not full: %v", err)
	}
	w2 := h.instance("web-1-b", specOf(web)) // healed meanwhile
	if got := w2.ask("tcp", virtual(11).V4, 5432); got != "db-1-a "+w2.V4.String() {
		t.Errorf("of a new instance: %s", got)
	}
	check(t, next.Sweep(t.Context(), []string{"db-1-a", "web-1-a", "web-1-b"}))
	check(t, next.Detach(t.Context(), "web-1-b"))
	h.update(true, traffic(web, 10, w), traffic(db, 11, d))
	if got := w.ask("tcp", virtual(11).V4, 5432); got != "db-1-a "+w.V4.String() {
		t.Errorf("after the first update: %s", got)
	}
	if _, err := open.Write([]byte("still here?\n")); err != nil {
		t.Error(err)
	}
	check(t, open.SetReadDeadline(time.Now().Add(w.wait())))
	b := make([]byte, 100)
	if _, err := open.Read(b); err != nil {
		t.Errorf("the open connection: %v", err)
	}
	// With other ranges or options the old table is of no use.
	check(t, newNetwork(t, Config{RunDir: h.cfg.RunDir, NoMesh: true}).Setup(t.Context()))
}

// Another program that loads a whole rule set, or removes forwarding, is put right.
func TestRepair(t *testing.T) {
	h := newHost(t, Config{})
	h.running()
	web := shop.Service("web")
	w := h.instance("web-1-a", specOf(web))
	h.update(true, traffic(web, 10, w))
	check(t, writeSysctl("ipv4/ip_forward", "0"))
	nft(t, "flush ruleset\ntable inet filter { chain input { type filter hook input priority 0\n }\n }")
	eventually(t, "the table is back", func() bool { return strings.Contains(ruleset(t), "table inet maru") })
	if got := w.ask("tcp", virtual(10).V4, 80); got != "web-1-a 10.211.0.1" {
		t.Errorf("got %s", got)
	}
	if got := w.ask("tcp", outsideV4, 80); got != "ECONNREFUSED" {
		t.Errorf("outside: %s", got)
	}

	nft(t, "flush ruleset") // and an update that comes before it is noticed
	h.update(false, traffic(web, 10, w))
	w.ask("tcp", virtual(10).V4, 80)
	nft(t, "flush ruleset")
	check(t, h.Detach(t.Context(), "web-1-a"))
	if rules := ruleset(t); !strings.Contains(rules, "10.211.0.10") || strings.Contains(rules, h.prefix()+"1") {
		t.Errorf("got\n%s", rules)
	}
}

func TestConfig(t *testing.T) {
	bad := maru.DefaultRanges()
	bad.VirtualV4 = netip.MustParsePrefix("10.210.128.0/17")
	small := maru.DefaultRanges()
	small.InstancesV4 = netip.MustParsePrefix("10.210.0.0/30")
	half := maru.DefaultRanges()
	half.VirtualV6 = netip.Prefix{}
	for _, cfg := range []Config{{Name: "Maru"}, {Name: "muchtoolong"}, {RunDir: "run"}, {MTU: 100}, {Ranges: bad}, {Ranges: small}, {Ranges: half}} {
		if err := cfg.Validate(); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%+v gives %v", cfg, err)
		}
		if _, err := New(cfg, nil); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	check(t, Config{}.Validate())
	four := maru.DefaultRanges()
	four.InstancesV6, four.VirtualV6 = netip.Prefix{}, netip.Prefix{}
	check(t, Config{Ranges: four}.Validate())
}

func TestBeforeSetup(t *testing.T) {
	n := newNetwork(t, Config{RunDir: t.TempDir()})
	addrs, err := n.Allocate()
	check(t, err)
	if _, err := n.Attach(t.Context(), "web-1-a", Spec{Addresses: addrs}); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
	if err := n.Sweep(t.Context(), nil); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
	check(t, n.Detach(t.Context(), "web-1-a"))
}
