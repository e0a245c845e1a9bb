package discovery

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/marucloud/maru"
)

const (
	perTry      = 1500 * time.Millisecond
	allTries    = 5 * time.Second // what resolver libraries wait by default
	mostAsking  = 1024
	mostPerPeer = 100 // so that one caller can't keep all others from asking
)

// upstream asks foreign name servers, and remembers what they said.
type upstream struct {
	resolvers func() []netip.AddrPort
	cache     *cache

	mu      sync.Mutex
	asking  map[cacheKey]*inquiry
	perPeer map[netip.Addr]int
	total   int
}

// inquiry is a question that is being asked; others who ask the same wait for its answer.
type inquiry struct {
	done   chan struct{}
	answer *dns.Msg
	err    error
}

func newUpstream(resolvers func() []netip.AddrPort) *upstream {
	return &upstream{resolvers: resolvers, cache: newCache(), asking: map[cacheKey]*inquiry{}, perPeer: map[netip.Addr]int{}}
}

// ask gives the answer to q, from memory or from the first resolver that has one.
func (u *upstream) ask(ctx context.Context, peer netip.Addr, udp bool, q *dns.Msg) (*dns.Msg, error) {
	key := keyOf(q)
	if m := u.cache.get(key, time.Now()); m != nil {
		return answerTo(q, m), nil
	}
	if !u.enter(peer) {
		return nil, maru.Errorf(maru.Exhausted, "too many questions at once")
	}
	defer u.leave(peer)
	i, first := u.join(key)
	if first {
		i.answer, i.err = u.exchange(ctx, q)
		if i.err == nil {
			u.cache.put(key, i.answer, time.Now())
		}
		u.mu.Lock()
		delete(u.asking, key)
		u.mu.Unlock()
		close(i.done)
	}
	select {
	case <-i.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if i.err != nil {
		return nil, i.err
	}
	return answerTo(q, i.answer), nil
}

func (u *upstream) enter(peer netip.Addr) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.total >= mostAsking || u.perPeer[peer] >= mostPerPeer {
		return false
	}
	u.total++
	u.perPeer[peer]++
	return true
}

func (u *upstream) leave(peer netip.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total--
	if u.perPeer[peer]--; u.perPeer[peer] == 0 {
		delete(u.perPeer, peer)
	}
}

func (u *upstream) join(key cacheKey) (i *inquiry, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i, ok := u.asking[key]; ok {
		return i, false
	}
	i = &inquiry{done: make(chan struct{})}
	u.asking[key] = i
	return i, true
}

// exchange asks each resolver in turn, and all once more, until one answers.
func (u *upstream) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	resolvers := u.resolvers()
	if len(resolvers) == 0 {
		return nil, maru.Errorf(maru.Unavailable, "no name server is known")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allTries)
	defer cancel()
	question := new(dns.Msg)
	question.Id = dns.Id()
	question.RecursionDesired = true
	question.CheckingDisabled = q.CheckingDisabled
	question.Question = []dns.Question{q.Question[0]}
	dnssec := false
	if opt := q.IsEdns0(); opt != nil {
		dnssec = opt.Do()
	}
	question.SetEdns0(udpSize, dnssec)
	var last error
	var second *dns.Msg // an answer that another server may better
	for range 2 {
		for _, r := range resolvers {
			answer, err := tryOne(ctx, r, question)
			switch {
			case err != nil:
				last = err
			case answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError:
				return answer, nil
			default:
				second = answer
			}
			if ctx.Err() != nil {
				break
			}
		}
		if second != nil {
			return second, nil
		}
	}
	return nil, maru.Errorf(maru.Unavailable, "no name server answered: %w", last)
}

func tryOne(ctx context.Context, server netip.AddrPort, question *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, perTry)
	defer cancel()
	client := dns.Client{Net: "udp", UDPSize: udpSize, Timeout: perTry}
	answer, _, err := client.ExchangeContext(ctx, question, server.String())
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		if whole, _, tcpErr := client.ExchangeContext(ctx, question, server.String()); tcpErr == nil {
			return whole, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, question.Question[0].Name) || answer.Question[0].Qtype != question.Question[0].Qtype {
		return nil, errors.New("the answer is to another question")
	}
	return answer, nil
}

// answerTo makes a kept answer that of one query.
func answerTo(q, kept *dns.Msg) *dns.Msg {
	m := kept.Copy()
	m.Id = q.Id
	m.Response = true
	m.Authoritative = false
	m.RecursionDesired, m.RecursionAvailable = q.RecursionDesired, true
	m.Question = []dns.Question{q.Question[0]}
	for i := len(m.Extra) - 1; i >= 0; i-- {
		if m.Extra[i].Header().Rrtype == dns.TypeOPT {
			m.Extra = append(m.Extra[:i], m.Extra[i+1:]...)
		}
	}
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, opt.Do())
	}
	return m
}

// HostResolvers reads the host's name servers from a file in the form of /etc/resolv.conf.
func HostResolvers(path string) ([]netip.AddrPort, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, maru.Errorf(maru.Unavailable, "name servers: %w", err)
	}
	return parseResolvers(bytes.NewReader(data)), nil
}

func parseResolvers(r io.Reader) []netip.AddrPort {
	var list []netip.AddrPort
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a, maru.DNSPort))
		}
	}
	return list
}
