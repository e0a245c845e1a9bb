package discovery

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	cacheEntries = 4096
	longestTTL   = 5 * time.Minute
	longestNone  = 30 * time.Second // for names that don't exist
)

// cacheKey is what tells one question from another.
type cacheKey struct {
	name         string
	kind, class  uint16
	dnssec, bare bool // bare: without checks
}

func keyOf(q *dns.Msg) cacheKey {
	question := q.Question[0]
	k := cacheKey{name: strings.ToLower(question.Name), kind: question.Qtype, class: question.Qclass, bare: q.CheckingDisabled}
	if opt := q.IsEdns0(); opt != nil {
		k.dnssec = opt.Do()
	}
	return k
}

// cache remembers answers as long as they say, the least used ones go first.
type cache struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	used    *list.List // of *cached; the least used at the back
}

type cached struct {
	key    cacheKey
	answer *dns.Msg
	since  time.Time
	until  time.Time
}

func newCache() *cache {
	return &cache{entries: map[cacheKey]*list.Element{}, used: list.New()}
}

// get gives a copy whose times to live are what is left of them.
func (c *cache) get(key cacheKey, now time.Time) *dns.Msg {
	c.mu.Lock()
	e := c.entries[key]
	if e == nil {
		c.mu.Unlock()
		return nil
	}
	hit := e.Value.(*cached) //nolint:forcetypeassert // the list holds nothing else
	if !now.Before(hit.until) {
		c.used.Remove(e)
		delete(c.entries, key)
		c.mu.Unlock()
		return nil
	}
	c.used.MoveToFront(e)
	c.mu.Unlock()
	m := hit.answer.Copy()
	age := uint32(now.Sub(hit.since) / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, age)
			}
		}
	}
	return m
}

func (c *cache) put(key cacheKey, answer *dns.Msg, now time.Time) {
	ttl := lifetime(answer)
	if ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.used.Remove(e)
	}
	c.entries[key] = c.used.PushFront(&cached{key, answer, now, now.Add(ttl)})
	for c.used.Len() > cacheEntries {
		last := c.used.Remove(c.used.Back()).(*cached) //nolint:forcetypeassert // the list holds nothing else
		delete(c.entries, last.key)
	}
}

// lifetime gives how long an answer may be kept; 0: not at all.
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated {
		return 0
	}
	ttl, longest := ^uint32(0), longestTTL
	switch {
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
	case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
		longest = longestNone
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				ttl = min(ttl, soa.Minttl, soa.Hdr.Ttl)
			}
		}
		if ttl == ^uint32(0) {
			return 0
		}
	default:
		return 0
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			ttl = min(ttl, rr.Header().Ttl)
		}
	}
	return min(time.Duration(ttl)*time.Second, longest)
}
