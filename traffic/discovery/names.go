package discovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

const (
	domain = ".internal"
	// ttlVirtual may be long beside ttlInstances: a service keeps its virtual address.
	ttlVirtual   = 5
	ttlInstances = 1
)

// own answers what is Maru's to answer, and gives nil for foreign names.
func (s *Server) own(caller *table.Service, q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	if strings.HasSuffix(name, ".in-addr.arpa") || strings.HasSuffix(name, ".ip6.arpa") {
		return s.reverse(caller, q, name)
	}
	if question.Qclass != dns.ClassINET && question.Qclass != dns.ClassANY {
		return nil
	}
	if found, ttl, ok := s.find(caller, name); ok {
		return addresses(q, found, ttl)
	}
	if name == "" || strings.Contains(name, ".") && !strings.HasSuffix(name, domain) {
		return nil
	}
	return authority(q, dns.RcodeNameError)
}

// find gives the addresses behind a name, as far as the caller is to know.
func (s *Server) find(caller *table.Service, name string) (found []maru.Addresses, ttl uint32, ok bool) {
	if services := s.table.Lookup(caller, name, ""); len(services) > 0 {
		return ofServices(services)
	}
	rest, full := strings.CutSuffix(name, domain)
	if !full {
		return s.findInstance(caller, name, "")
	}
	// A service's name may hold dots, and so may an app's.
	for i := range len(rest) {
		if rest[i] != '.' {
			continue
		}
		bare, app := rest[:i], rest[i+1:]
		if services := s.table.Lookup(caller, bare, app); len(services) > 0 {
			return ofServices(services)
		}
		if found, ttl, ok := s.findInstance(caller, bare, app); ok {
			return found, ttl, true
		}
	}
	return nil, 0, false
}

// findInstance takes INSTANCE and INSTANCE.NAME; app "" is any that the caller meets.
func (s *Server) findInstance(caller *table.Service, name, app string) (found []maru.Addresses, ttl uint32, ok bool) {
	id, service, named := strings.Cut(name, ".")
	ep, ok := s.table.Instance(id)
	if !ok || !table.Meet(caller, ep.Service) ||
		named && !strings.EqualFold(service, ep.Service.ID.Service) ||
		app != "" && !strings.EqualFold(app, ep.Service.ID.App) {
		return nil, 0, false
	}
	return []maru.Addresses{ep.Addresses}, ttlInstances, true
}

// ofServices gives virtual addresses, or those of the instances where the service wants that.
func ofServices(services []*table.Service) (found []maru.Addresses, ttl uint32, ok bool) {
	ttl = ttlVirtual
	for _, svc := range services {
		state := svc.State()
		if !state.DNSRoundRobin {
			found = append(found, state.VirtualAddress)
			continue
		}
		ttl = ttlInstances
		list := state.Ready()
		if len(list) == 0 {
			// The members of a cluster find each other before the first of them is ready.
			list = state.Endpoints()
		}
		for _, ep := range list {
			if !ep.Draining() {
				found = append(found, ep.Addresses)
			}
		}
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found, ttl, true
}

func addresses(q *dns.Msg, found []maru.Addresses, ttl uint32) *dns.Msg {
	m := authority(q, dns.RcodeSuccess)
	question := q.Question[0]
	for _, a := range found {
		if a.V4.IsValid() && (question.Qtype == dns.TypeA || question.Qtype == dns.TypeANY) {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(question, dns.TypeA, ttl), A: a.V4.AsSlice()})
		}
		if a.V6.IsValid() && (question.Qtype == dns.TypeAAAA || question.Qtype == dns.TypeANY) {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(question, dns.TypeAAAA, ttl), AAAA: a.V6.AsSlice()})
		}
	}
	return m
}

func header(q dns.Question, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func authority(q *dns.Msg, code int) *dns.Msg {
	m := reply(q, code)
	m.Authoritative = true
	return m
}

// reverse answers whose an address is, for addresses of the ranges.
func (s *Server) reverse(caller *table.Service, q *dns.Msg, name string) *dns.Msg {
	addr, ok := reverseAddress(name)
	if !ok || !s.inRanges(addr) {
		return nil
	}
	full := ""
	if svc, ok := s.table.Virtual(addr); ok && table.Meet(caller, svc) {
		full = table.FullName(svc.ID)
	} else if ep, ok := s.table.Caller(addr); ok && table.Meet(caller, ep.Service) {
		full = ep.Instance + "." + table.FullName(ep.Service.ID)
	}
	if full == "" {
		return authority(q, dns.RcodeNameError)
	}
	m := authority(q, dns.RcodeSuccess)
	if question := q.Question[0]; question.Qtype == dns.TypePTR || question.Qtype == dns.TypeANY {
		m.Answer = []dns.RR{&dns.PTR{Hdr: header(question, dns.TypePTR, ttlInstances), Ptr: dns.Fqdn(full)}}
	}
	return m
}

func (s *Server) inRanges(a netip.Addr) bool {
	r := s.cfg.Ranges
	for _, p := range []netip.Prefix{r.InstancesV4, r.InstancesV6, r.VirtualV4, r.VirtualV6} {
		if p.IsValid() && p.Contains(a) {
			return true
		}
	}
	return false
}

// reverseAddress reads the address out of a name under in-addr.arpa or ip6.arpa.
func reverseAddress(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(v4, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil
	}
	digits := strings.Split(strings.TrimSuffix(name, ".ip6.arpa"), ".")
	if len(digits) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := len(digits) - 1; i >= 0; i-- {
		if len(digits[i]) != 1 {
			return netip.Addr{}, false
		}
		b.WriteString(digits[i])
		if i%4 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
