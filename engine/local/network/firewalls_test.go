package network

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// nftDocker loads what Docker has by iptables-nft on a machine with nothing else.
func nftDocker(t testing.TB) {
	t.Helper()
	nft(t, `
table ip nat {
	chain DOCKER {
		iifname "docker0" counter packets 0 bytes 0 return
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "docker0" ip saddr 172.17.0.0/16 counter packets 0 bytes 0 masquerade
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local counter packets 0 bytes 0 jump DOCKER
	}
}
table ip filter {
	chain DOCKER {
	}
	chain DOCKER-ISOLATION-STAGE-1 {
		iifname "docker0" oifname != "docker0" counter packets 0 bytes 0 jump DOCKER-ISOLATION-STAGE-2
		counter packets 0 bytes 0 return
	}
	chain DOCKER-ISOLATION-STAGE-2 {
		oifname "docker0" counter packets 0 bytes 0 drop
		counter packets 0 bytes 0 return
	}
	chain DOCKER-USER {
		counter packets 0 bytes 0 return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump DOCKER-USER
		counter packets 0 bytes 0 jump DOCKER-ISOLATION-STAGE-1
		oifname "docker0" ct state related,established counter packets 0 bytes 0 accept
		oifname "docker0" counter packets 0 bytes 0 jump DOCKER
		iifname "docker0" oifname != "docker0" counter packets 0 bytes 0 accept
		iifname "docker0" oifname "docker0" counter packets 0 bytes 0 accept
	}
}
table ip6 filter {
	chain DOCKER-USER {
		counter packets 0 bytes 0 return
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump DOCKER-USER
	}
}
`)
}

// nftUFW loads what ufw has by iptables-nft with "default deny" for incoming, outgoing and routed.
func nftUFW(t testing.TB) {
	t.Helper()
	for _, family := range []string{"ip", "ip6"} {
		nft(t, `
table `+family+` filter {
	chain ufw-before-input {
		iifname "lo" counter packets 0 bytes 0 accept
		ct state related,established counter packets 0 bytes 0 accept
		ct state invalid counter packets 0 bytes 0 drop
		meta l4proto ipv6-icmp counter packets 0 bytes 0 accept
	}
	chain ufw-user-input {
		tcp dport 22 counter packets 0 bytes 0 accept
	}
	chain ufw-reject-input {
	}
	chain ufw-before-forward {
		ct state related,established counter packets 0 bytes 0 accept
	}
	chain ufw-before-output {
		oifname "lo" counter packets 0 bytes 0 accept
		ct state related,established counter packets 0 bytes 0 accept
		meta l4proto ipv6-icmp counter packets 0 bytes 0 accept
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
		counter packets 0 bytes 0 jump ufw-before-input
		counter packets 0 bytes 0 jump ufw-user-input
		counter packets 0 bytes 0 jump ufw-reject-input
	}
	chain OUTPUT {
		type filter hook output priority filter; policy drop;
		counter packets 0 bytes 0 jump ufw-before-output
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump ufw-before-forward
	}
}
`)
	}
}

// nftFirewalld loads what firewalld has, in short.
func nftFirewalld(t testing.TB) {
	t.Helper()
	nft(t, `
table inet firewalld {
	chain mangle_PREROUTING {
		type filter hook prerouting priority mangle + 10; policy accept;
	}
	chain nat_PREROUTING {
		type nat hook prerouting priority dstnat + 10; policy accept;
	}
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
		jump filter_FORWARD_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy accept;
		ct state { established, related } accept
		oifname "lo" accept
		ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 addr-unreachable
	}
	chain filter_INPUT_ZONES {
		goto filter_IN_public
	}
	chain filter_FORWARD_ZONES {
		goto filter_FWD_public
	}
	chain filter_IN_public {
		tcp dport 22 ct state new,untracked accept
		meta l4proto { icmp, ipv6-icmp } accept
	}
	chain filter_FWD_public {
		meta l4proto { icmp, ipv6-icmp } accept
	}
}
`)
}

// nftAdmin loads the rules that people write for a server.
func nftAdmin(t testing.TB) {
	t.Helper()
	nft(t, `
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iif "lo" accept
		meta l4proto ipv6-icmp accept
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
	chain output {
		type filter hook output priority filter; policy accept;
	}
}
`)
}

// works tells what does not work of all that should.
func (h *host) works(w, d place) string {
	h.t.Helper()
	var wrong []string
	expect := func(what, got, want string) {
		if got != want {
			wrong = append(wrong, what+": "+got)
		}
	}
	for _, f := range families {
		for _, network := range []string{"tcp", "udp"} {
			source := byFamily(w.Addresses, f).String()
			expect(network+" to instance", w.ask(network, byFamily(d.Addresses, f), 5432), d.name+" "+source)
			expect(network+" to virtual address", w.ask(network, byFamily(virtual(11), f), 5432), d.name+" "+source)
			expect(network+" to name server", w.ask(network, byFamily(h.Host(), f), 53), "machine "+source)
			expect(network+" to outside", w.ask(network, byFamily(h.outsider().Addresses, f), 5432), "outside "+byFamily(h.itself().Addresses, f).String())
			expect(network+" from host", h.itself().ask(network, byFamily(d.Addresses, f), 5432), d.name+" "+byFamily(h.Host(), f).String())
		}
		expect("refused", w.ask("tcp", byFamily(h.itself().Addresses, f), 22), "ECONNREFUSED")
		expect("from outside", h.outsider().hurried().ask("tcp", byFamily(d.Addresses, f), 5432), "timeout")
	}
	return strings.Join(wrong, "; ")
}

func TestBesideOtherFirewalls(t *testing.T) {
	for name, load := range map[string]func(testing.TB){
		"nothing": func(testing.TB) {}, "docker": nftDocker, "ufw": nftUFW, "firewalld": nftFirewalld, "admin": nftAdmin,
		"docker and ufw": func(t testing.TB) { nftUFW(t); nftDocker(t) },
	} {
		for _, first := range []string{"before", "after"} {
			t.Run(name+" "+first, func(t *testing.T) {
				t.Cleanup(func() { nft(t, "flush ruleset") })
				h := newMachine(t)
				if first == "before" {
					load(t)
				}
				h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
				check(t, h.Setup(t.Context()))
				t.Cleanup(func() { check(t, h.Teardown(context.Background())) })
				stop := h.running()
				w, d := h.instance("web-1-a", specOf(shop.Service("web"))), h.instance("db-1-a", specOf(shop.Service("db")))
				h.update(true, traffic(shop.Service("web"), 10, w), traffic(shop.Service("db"), 11, d))
				h.itself().serve(53)
				h.itself().serve(22)
				h.outsider().serve(5432)
				within(t, h.outside, func() {
					output(t, "ip", "route", "replace", "10.210.0.0/15", "via", machineV4.String())
					output(t, "ip", "route", "replace", "fd6d:6172:7500::/48", "via", machineV6.String())
				})
				if first == "after" {
					load(t)
				}
				wrong := h.works(w.hurried(), d)
				for tries := 0; tries < 5 && wrong != ""; tries++ { // until a change is noticed
					wrong = h.works(w, d)
				}
				if wrong != "" {
					t.Errorf("does not work: %s\n%s", wrong, ruleset(t))
				}
				check(t, h.Sweep(t.Context(), nil))
				stop()
				check(t, h.Teardown(t.Context()))
				if rules := ruleset(t); strings.Contains(rules, "maru") {
					t.Errorf("left over:\n%s", rules)
				}
				check(t, h.Setup(t.Context())) // for the clean-up
			})
		}
	}
}

const ownEnv = "MARU_NETWORK_TEST_OWN"

// TestBesideIptables has a machine of its own: tables of the legacy kind stay once they were used.
func TestBesideIptables(t *testing.T) {
	needRoot(t)
	for _, kind := range []string{"iptables-legacy", "iptables-nft"} {
		t.Run(kind, func(t *testing.T) {
			if _, err := exec.LookPath(kind); err != nil {
				t.Skip(err)
			}
			if os.Getenv(ownEnv) == "" {
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestBesideIptables$/^"+kind+"$", "-test.v")
				cmd.Env = append(os.Environ(), insideEnv+"=", ownEnv+"=1")
				if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "SKIP") {
					t.Fatalf("%v\n%s", err, out)
				}
				return
			}
			testBesideIptables(t, kind)
		})
	}
}

func testBesideIptables(t *testing.T, kind string) {
	programs := []string{kind, strings.Replace(kind, "ip", "ip6", 1)}
	run := func(args string) {
		for _, p := range programs {
			output(t, p, strings.Fields(args)...)
		}
	}
	listed := func() string { return output(t, programs[0], "-S") + output(t, programs[1], "-S") }
	for _, chain := range []string{"INPUT", "FORWARD", "OUTPUT"} {
		run("-P " + chain + " DROP")
	}
	run("-A OUTPUT -o lo -j ACCEPT")
	run("-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	run("-A INPUT -i lo -j ACCEPT")
	run("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	output(t, programs[1], "-A", "INPUT", "-p", "icmpv6", "-j", "ACCEPT")
	output(t, programs[1], "-A", "OUTPUT", "-p", "icmpv6", "-j", "ACCEPT")
	before := listed()

	h := newHost(t, Config{})
	w, d := h.instance("web-1-a", specOf(shop.Service("web"))), h.instance("db-1-a", specOf(shop.Service("db")))
	h.update(true, traffic(shop.Service("web"), 10, w), traffic(shop.Service("db"), 11, d))
	h.itself().serve(53)
	h.itself().serve(22)
	h.outsider().serve(5432)
	within(t, h.outside, func() {
		output(t, "ip", "route", "replace", "10.210.0.0/15", "via", machineV4.String())
		output(t, "ip", "route", "replace", "fd6d:6172:7500::/48", "via", machineV6.String())
	})
	if wrong := h.works(w, d); wrong != "" {
		t.Errorf("does not work: %s\n%s", wrong, listed())
	}
	rules := listed()
	h.recheck(t.Context())
	if again := listed(); again != rules {
		t.Errorf("changes again:\n%s", again)
	}
	run("-I FORWARD -j DROP") // comes before ours
	h.recheck(t.Context())
	if wrong := h.works(w, d); wrong != "" {
		t.Errorf("no longer works: %s\n%s", wrong, listed())
	}
	run("-D FORWARD -j DROP")
	check(t, h.Teardown(t.Context()))
	if left := listed(); left != before {
		t.Errorf("left over:\n%s", left)
	}
	check(t, h.Setup(t.Context())) // for the clean-up
}
