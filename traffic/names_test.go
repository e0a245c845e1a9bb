package traffic_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/marucloud/maru"
)

// ask asks the proxy's name server from an address and gives the code and the answers' data, sorted.
func (w *world) ask(from netip.Addr, network, name string, kind uint16) string {
	w.t.Helper()
	local := net.Addr(&net.UDPAddr{IP: from.AsSlice()})
	if network == "tcp" {
		local = &net.TCPAddr{IP: from.AsSlice()}
	}
	c := dns.Client{Net: network, Dialer: &net.Dialer{LocalAddr: local}}
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	m, _, err := c.Exchange(q, w.dns)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	if m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0] {
		w.t.Fatalf("%s: answer to %v", name, m.Question)
	}
	parts := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		parts = append(parts, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(parts, " ")
}

func TestNames(t *testing.T) {
	w := newWorld(t, nil)
	var asked atomic.Int32
	resolver := startResolver(t, func(q *dns.Msg) *dns.Msg {
		asked.Add(1)
		m := new(dns.Msg).SetReply(q)
		switch q.Question[0].Name {
		case "example.com.":
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)})
		case "large.example.com.":
			for i := range 100 {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "large.example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(i))})
			}
		default:
			m.Rcode = dns.RcodeNameError
		}
		return m
	})
	bank := maru.Scope{Project: "default", Environment: "production", App: "bank"}
	own, shared := "default/production/shop/default", "default/production//shared"
	web := freshAddress()
	lonely := freshAddress()
	foreign := freshAddress()
	virtual := func(n byte) maru.Addresses {
		return maru.Addresses{V4: netip.AddrFrom4([4]byte{127, 78, 0, n}), V6: netip.MustParseAddr(fmt.Sprintf("fd00:78::%d", n))}
	}
	member := func(id string, a netip.Addr, ready bool) maru.Endpoint {
		return maru.Endpoint{Instance: id, Release: 1, Ready: ready, Addresses: maru.Addresses{V4: a}}
	}
	store1, store2 := freshAddress(), freshAddress()
	if err := w.Update(maru.TrafficUpdate{Version: 1, Full: true, Resolvers: []netip.AddrPort{resolver}, Services: []maru.ServiceTraffic{
		{Service: shop.Service("web"), VirtualAddress: virtual(1), Networks: map[string][]string{own: {"web", "Front"}, shared: {"web"}},
			Endpoints: []maru.Endpoint{member("web-1-aaaaa", web, true)}},
		{Service: shop.Service("db"), VirtualAddress: virtual(2), Networks: map[string][]string{own: {"db", "db.shop.example"}}},
		{Service: shop.Service("store"), VirtualAddress: virtual(3), DNSRoundRobin: true, Networks: map[string][]string{own: {"store"}},
			Endpoints: []maru.Endpoint{member("store-1-aaaaa", store1, true), member("store-1-bbbbb", store2, false)}},
		{Service: shop.Service("hidden"), VirtualAddress: virtual(4), Isolated: true, Networks: map[string][]string{"default/production/shop/back": {"hidden"}},
			Endpoints: []maru.Endpoint{member("hidden-1-aaaaa", lonely, true)}},
		{Service: bank.Service("db"), VirtualAddress: virtual(5), Networks: map[string][]string{"default/production/bank/default": {"db"}, shared: {"db"}},
			Endpoints: []maru.Endpoint{member("db-7-aaaaa", foreign, true)}},
		{Service: bank.Service("vault"), VirtualAddress: virtual(6), Networks: map[string][]string{"default/production/bank/default": {"vault"}}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from netip.Addr
		name string
		kind uint16
		want string
	}{
		{web, "web", dns.TypeA, "NOERROR 127.78.0.1"},
		{web, "WEB.shop.Internal", dns.TypeAAAA, "NOERROR fd00:78::1"},
		{web, "front", dns.TypeA, "NOERROR 127.78.0.1"},
		{web, "db", dns.TypeA, "NOERROR 127.78.0.2"}, // its own app's, not the bank's on the shared network
		{web, "db.shop.internal", dns.TypeA, "NOERROR 127.78.0.2"},
		{web, "db.bank.internal", dns.TypeA, "NOERROR 127.78.0.5"}, // shared on purpose
		{web, "db.shop.example", dns.TypeA, "NOERROR 127.78.0.2"},
		{web, "db", dns.TypeMX, "NOERROR"},
		{web, "store", dns.TypeA, "NOERROR " + store1.String()},
		{web, "store", dns.TypeAAAA, "NOERROR"},
		{web, "store-1-bbbbb.store", dns.TypeA, "NOERROR " + store2.String()},
		{web, "store-1-bbbbb.store.shop.internal", dns.TypeA, "NOERROR " + store2.String()},
		{web, "store-1-bbbbb", dns.TypeA, "NOERROR " + store2.String()},
		{web, "store-1-bbbbb.web", dns.TypeA, "NXDOMAIN"},
		{web, "hidden", dns.TypeA, "NXDOMAIN"},
		{web, "hidden-1-aaaaa", dns.TypeA, "NXDOMAIN"},
		{web, "vault.bank.internal", dns.TypeA, "NXDOMAIN"},
		{web, "nothing.bank.internal", dns.TypeA, "NXDOMAIN"},
		{web, "vault", dns.TypeA, "NXDOMAIN"},
		{foreign, "web", dns.TypeA, "NOERROR 127.78.0.1"},
		{foreign, "store", dns.TypeA, "NXDOMAIN"},
		{lonely, "web", dns.TypeA, "NXDOMAIN"},
		{lonely, "example.com", dns.TypeA, "NXDOMAIN"},
		{web, "example.com", dns.TypeA, "NOERROR 192.0.2.1"},
		{web, "absent.example.com", dns.TypeA, "NXDOMAIN"},
		{web, "2.0.78.127.in-addr.arpa", dns.TypePTR, "NOERROR db.shop.internal."},
		{web, "6.0.78.127.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		{freshAddress(), "web", dns.TypeA, "REFUSED"},
		{freshAddress(), "example.com", dns.TypeA, "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := w.ask(c.from, network, c.name, c.kind); got != c.want {
				t.Errorf("%s asks %s %s by %s: %q, want %q", c.from, c.name, dns.TypeToString[c.kind], network, got, c.want)
			}
		}
	}
	reverse, err := dns.ReverseAddr(store2.String())
	if err != nil {
		t.Fatal(err)
	}
	if got := w.ask(web, "udp", reverse, dns.TypePTR); got != "NOERROR store-1-bbbbb.store.shop.internal." {
		t.Error(got)
	}
	if got := w.ask(web, "tcp", "large.example.com", dns.TypeA); strings.Count(got, "192.0.2.") != 100 {
		t.Errorf("large answer: %s", got)
	}
	before := asked.Load()
	w.ask(web, "udp", "example.com", dns.TypeA)
	if asked.Load() != before {
		t.Error("a known answer was asked for again")
	}
}

// startResolver is a name server on loopback, by UDP and TCP.
func startResolver(t testing.TB, answer func(*dns.Msg) *dns.Msg) netip.AddrPort {
	t.Helper()
	pc, l := listenBoth(t)
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := answer(q)
		if m == nil {
			return
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}
