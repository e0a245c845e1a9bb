package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

var shop = maru.Scope{Project: "p", Environment: "e", App: "shop"}

func newServer(t testing.TB, services ...maru.ServiceTraffic) *Server {
	t.Helper()
	x := table.New()
	if err := x.Update(maru.TrafficUpdate{Services: services}); err != nil {
		t.Fatal(err)
	}
	return New(Config{Ranges: maru.DefaultRanges(), Introduce: time.Millisecond}, x, slog.New(slog.DiscardHandler))
}

func member(name string, n byte, networks ...string) maru.ServiceTraffic {
	s := maru.ServiceTraffic{
		Service: shop.Service(name), Networks: map[string][]string{},
		VirtualAddress: maru.Addresses{V4: netip.AddrFrom4([4]byte{10, 211, 0, n})},
		Endpoints: []maru.Endpoint{{
			Instance: name + "-1-aaaaa", Ready: true,
			Addresses: maru.Addresses{V4: netip.AddrFrom4([4]byte{10, 210, 0, n}), V6: netip.MustParseAddr(fmt.Sprintf("fd6d:6172:7500:1::%d", n))},
		}},
	}
	for _, network := range networks {
		s.Networks[network] = []string{name}
	}
	return s
}

// TestSecretsOfOtherNetworks: whatever a caller asks about a service that it shares no network with,
// the answer is the one it gets about a service that does not exist.
func TestSecretsOfOtherNetworks(t *testing.T) {
	s := newServer(t, member("caller", 1, "a"), member("hidden", 2, "b"))
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom([]string{"%s", "%s.shop.internal", "%s-1-aaaaa", "%s-1-aaaaa.%s", "%s-1-aaaaa.%s.shop.internal", "%s.internal", "x.%s"}).Draw(t, "form")
		kind := rapid.SampledFrom([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeTXT, dns.TypeSRV}).Draw(t, "kind")
		ask := func(name string) string {
			n := strings.ReplaceAll(form, "%s", name)
			q := new(dns.Msg).SetQuestion(dns.Fqdn(n), kind)
			q.Id = 1
			return strings.ReplaceAll(s.Answer(context.Background(), netip.MustParseAddr("10.210.0.1"), true, q).String(), name, "NAME")
		}
		if hidden, absent := ask("hidden"), ask("absent"); hidden != absent {
			t.Fatalf("%s\n%s", hidden, absent)
		}
	})
	for _, addr := range []string{"10.211.0.2", "10.210.0.2", "10.211.0.77", "fd6d:6172:7500:1::2", "fd6d:6172:7500:1::77"} {
		name, err := dns.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		m := s.Answer(t.Context(), netip.MustParseAddr("10.210.0.1"), true, new(dns.Msg).SetQuestion(name, dns.TypePTR))
		if m.Rcode != dns.RcodeNameError || len(m.Answer) != 0 {
			t.Errorf("%s: %v", addr, m)
		}
	}
}

func TestReverseAddress(t *testing.T) {
	for _, a := range []string{"10.1.2.3", "fd6d:6172:7500:1::2", "::1"} {
		name, err := dns.ReverseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := reverseAddress(strings.TrimSuffix(name, ".")); !ok || got != netip.MustParseAddr(a) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzQuery gives the server what callers may send.
func FuzzQuery(f *testing.F) {
	s := newServer(f, member("caller", 1, "a"), member("web.front", 2, "a"))
	s.up = newUpstream(func() []netip.AddrPort { return nil })
	for _, name := range []string{"caller.", "web.front.shop.internal.", ".", "internal.", "1.0.211.10.in-addr.arpa.", "x.ip6.arpa.", `\000\.a.`, "example.com."} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.SetEdns0(4096, true)
		wire, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return
		}
		m := s.Answer(context.Background(), netip.MustParseAddr("10.210.0.1"), true, q)
		if m == nil {
			return
		}
		m.Truncate(512)
		if _, err := m.Pack(); err != nil && !errors.Is(err, dns.ErrRdata) {
			// What can't be sent was not sent well formed either.
			if _, sound := q.Pack(); sound == nil {
				t.Fatalf("%v: %v", err, m)
			}
		}
	})
}

// FuzzUpstreamAnswer gives it what a resolver may answer.
func FuzzUpstreamAnswer(f *testing.F) {
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	m.Response = true
	m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)})
	m.SetEdns0(1232, true)
	wire, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Fuzz(func(t *testing.T, wire []byte) {
		kept := new(dns.Msg)
		if kept.Unpack(wire) != nil {
			return
		}
		q := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
		c := newCache()
		now := time.Now()
		c.put(keyOf(q), kept, now)
		for _, m := range []*dns.Msg{kept, c.get(keyOf(q), now.Add(time.Second))} {
			if m == nil {
				continue
			}
			if a := answerTo(q, m); a.Id != q.Id || len(a.Question) != 1 {
				t.Fatal(a)
			}
		}
	})
}

func FuzzResolvers(f *testing.F) {
	f.Add("nameserver 127.0.0.53\n# nameserver 1.1.1.1\noptions edns0\nnameserver fe80::1%eth0 \nnameserver x")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseResolvers(strings.NewReader(text)) {
			if !r.IsValid() || r.Port() != 53 {
				t.Fatal(r)
			}
		}
	})
}

func TestCache(t *testing.T) {
	c := newCache()
	now := time.Now()
	answer := func(name string, ttl uint32) (*dns.Msg, cacheKey) {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m := new(dns.Msg).SetReply(q)
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(192, 0, 2, 1)})
		return m, keyOf(q)
	}
	m, key := answer("a.", 60)
	c.put(key, m, now)
	if got := c.get(key, now.Add(20*time.Second)); got == nil || got.Answer[0].Header().Ttl != 40 {
		t.Errorf("%v", got)
	}
	if got := c.get(key, now.Add(60*time.Second)); got != nil {
		t.Errorf("%v", got)
	}
	zero, zeroKey := answer("zero.", 0)
	c.put(zeroKey, zero, now)
	if c.get(zeroKey, now) != nil {
		t.Error("kept what is not to be kept")
	}
	for i := range cacheEntries + 10 {
		m, key := answer(fmt.Sprintf("%d.", i), 60)
		c.put(key, m, now)
	}
	if len(c.entries) != cacheEntries || c.used.Len() != cacheEntries {
		t.Errorf("%d entries", len(c.entries))
	}
}

// TestNextResolver: one that is silent or fails is followed by the next.
func TestNextResolver(t *testing.T) {
	start := func(code int) netip.AddrPort {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{})
		s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetRcode(q, code)
			_ = w.WriteMsg(m)
		})}
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}
	refused, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := netip.MustParseAddrPort(refused.LocalAddr().String())
	refused.Close()
	good, bad := start(dns.RcodeSuccess), start(dns.RcodeServerFailure)
	for _, list := range [][]netip.AddrPort{{dead, bad, good}, {good}, {bad, good, dead}} {
		u := newUpstream(func() []netip.AddrPort { return list })
		m, err := u.ask(t.Context(), netip.Addr{}, true, new(dns.Msg).SetQuestion("example.com.", dns.TypeA))
		if err != nil || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%v: %v %v", list, m, err)
		}
	}
	u := newUpstream(func() []netip.AddrPort { return slices.Repeat([]netip.AddrPort{dead}, 2) })
	if _, err := u.ask(t.Context(), netip.Addr{}, true, new(dns.Msg).SetQuestion("example.com.", dns.TypeA)); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
}
