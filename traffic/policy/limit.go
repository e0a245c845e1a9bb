package policy

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// by tells requests apart for a limit.
type by struct {
	what   string // address, header, user, token, all
	header string
	seed   maphash.Seed
}

func newBy(b maru.LimitBy) (by, error) {
	what := b.What
	switch {
	case b.Header != "":
		what = "header"
	case what == "":
		what = "address"
	}
	switch what {
	case "address", "header", "user", "token", "all":
		return by{what, b.Header, maphash.MakeSeed()}, nil
	}
	return by{}, maru.Errorf(maru.Invalid, "a limit can't be by %q", b.What)
}

// late tells whether requests can be told apart only when it is known who asks.
func (b by) late() bool { return b.what == "user" || b.what == "token" }

// key gives what stands for the client of a request. Requests that lack what they are to be told apart by
// are told apart by address.
func (b by) key(x *Exchange) uint64 {
	text := ""
	switch b.what {
	case "all":
		return 0
	case "header":
		text = x.Request.Header.Get(b.header)
	case "user":
		text = x.User
	case "token":
		text = x.Token
	}
	if text != "" {
		return maphash.String(b.seed, text)
	}
	a := x.Source
	if a.Is6() && !a.Is4In6() {
		if p, err := a.Prefix(64); err == nil { // a client has that many addresses to choose from
			a = p.Addr()
		}
	}
	return maphash.Comparable[netip.Addr](b.seed, a)
}

// rateLimit lets each client come so often: the generic cell rate algorithm (ITU-T I.371), which needs one
// moment for each client and has no windows at whose ends twice as many get through.
type rateLimit struct {
	by       by
	interval time.Duration // between requests
	burst    int64         // that may come at once
	policy   string        // of the RateLimit-Policy field
	cells    cells
	now      func() time.Duration // monotonic
}

func newRateLimit(l maru.RateLimit) (*rateLimit, error) {
	key, err := newBy(l.By)
	switch {
	case err != nil:
		return nil, err
	case l.Requests <= 0 || l.Per <= 0 || l.Burst < 0 || l.Per/time.Duration(l.Requests) <= 0:
		return nil, maru.Errorf(maru.Invalid, "%d requests per %s are no rate", l.Requests, l.Per)
	}
	began := time.Now()
	s := &rateLimit{
		by: key, interval: l.Per / time.Duration(l.Requests), burst: int64(l.Burst),
		now: func() time.Duration { return time.Since(began) },
	}
	if s.burst == 0 {
		s.burst = int64(l.Requests)
	}
	if s.interval > longestDepth/time.Duration(s.burst) {
		return nil, maru.Errorf(maru.Invalid, "a burst of %d is paid for by more than a year of %d requests per %s", s.burst, l.Requests, l.Per)
	}
	s.policy = fmt.Sprintf("%q;q=%d;w=%d", key.what, s.burst, wholeSeconds(s.interval*time.Duration(s.burst)))
	return s, nil
}

// limits are several, all of which a request must keep.
type limits []*rateLimit

func (all limits) take(x *Exchange) *Answer {
	for _, one := range all {
		if a := one.take(x); a != nil {
			return a
		}
	}
	return nil
}

// newLimits makes those that are counted before it is known who asks, and those after.
func newLimits(all []maru.RateLimit) (early, late step, err error) {
	var before, after limits
	for _, l := range all {
		one, err := newRateLimit(l)
		switch {
		case err != nil:
			return nil, nil, err
		case one.by.late():
			after = append(after, one)
		default:
			before = append(before, one)
		}
	}
	if before != nil {
		early = before
	}
	if after != nil {
		late = after
	}
	return early, late, nil
}

func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func (s *rateLimit) take(x *Exchange) *Answer {
	now := s.now()
	key := s.by.key(x)
	filled, wait := s.cells.take(key, now, s.interval, s.interval*time.Duration(s.burst))
	left := max(0, int64((s.interval*time.Duration(s.burst)-filled)/s.interval))
	fields := message.Header{
		{Name: "RateLimit-Policy", Value: s.policy},
		{Name: "RateLimit", Value: fmt.Sprintf("%q;r=%d;t=%d", s.by.what, left, wholeSeconds(filled))},
	}
	if wait > 0 {
		return &Answer{
			Status: http.StatusTooManyRequests, Title: "Too many requests", Reason: "more requests than the route's limit by " + s.by.what,
			What: "You sent more requests than are taken here.", Do: "Wait " + strconv.FormatInt(wholeSeconds(wait), 10) + " s, then try again.",
			After: wait, Header: fields,
		}
	}
	x.onBegin(func(r *message.Response) { r.Header = append(r.Header, fields...) })
	return nil
}

const (
	// longestDepth bounds how long a burst takes until it is paid for.
	longestDepth = 366 * 24 * time.Hour

	cellShards = 64
	// shardCells bounds the clients that a shard remembers, twice: about 4 MiB for a limit. Of more the ones
	// that came longest ago are forgotten.
	shardCells = 1024
)

// cells is for each client how long it would take until all its requests have been paid for.
type cells struct {
	shards [cellShards]struct {
		sync.Mutex
		young, old map[uint64]time.Duration // moments at which a client's cell is empty
	}
}

// take lets one more request of a client in, where its cell has room up to depth. Filled is how full it is
// then; wait how long until there is room, 0 where there was.
func (c *cells) take(key uint64, now, interval, depth time.Duration) (filled, wait time.Duration) {
	s := &c.shards[key%cellShards]
	s.Lock()
	defer s.Unlock()
	empty, young := s.young[key]
	if !young {
		empty = s.old[key]
	}
	empty = max(empty, now)
	if over := empty + interval - depth - now; over > 0 {
		return empty - now, over
	}
	if !young && len(s.young) >= shardCells {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[uint64]time.Duration)
	}
	s.young[key] = empty + interval
	return empty + interval - now, 0
}
