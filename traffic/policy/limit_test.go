package policy

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

func from(address string) *Exchange {
	return &Exchange{Request: &message.Request{}, Source: netip.MustParseAddr(address)}
}

// TestRateIsExact: a client that comes at random moments gets as much as a bucket that is filled drop by
// drop lets through, and is told to wait exactly as long as it has to.
func TestRateIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := maru.RateLimit{
			Requests: rapid.IntRange(1, 20).Draw(t, "requests"), Per: time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second,
			Burst: rapid.IntRange(0, 10).Draw(t, "burst"),
		}
		s, err := newRateLimit(l)
		if err != nil {
			t.Fatal(err)
		}
		var now time.Duration
		s.now = func() time.Duration { return now }
		depth := s.interval * time.Duration(s.burst)
		room, last := depth, time.Duration(0) // of the bucket
		x := from("192.0.2.1")
		for range 100 {
			now += time.Duration(rapid.Int64Range(0, int64(2*s.interval)).Draw(t, "pause"))
			room, last = min(depth, room+now-last), now
			a := s.take(x)
			if (a == nil) != (room >= s.interval) {
				t.Fatalf("at %s with room for %s of %s: %v", now, room, s.interval, a)
			}
			if a == nil {
				room -= s.interval
				continue
			}
			if a.After != s.interval-room {
				t.Fatalf("told to wait %s, not %s", a.After, s.interval-room)
			}
			if rapid.Bool().Draw(t, "waits") {
				now += a.After
				if room, last = room+now-last-s.interval, now; s.take(x) != nil {
					t.Fatal("waited in vain")
				}
			}
		}
	})
}

func TestClientsAreToldApart(t *testing.T) {
	tenant := func(name, address string) *Exchange {
		x := from(address)
		x.Request.Header = message.Header{{Name: "X-Tenant", Value: name}}
		return x
	}
	user := from("192.0.2.1")
	user.User = "ada"
	for _, c := range []struct {
		by   maru.LimitBy
		a, b *Exchange
		same bool
	}{
		{maru.LimitBy{}, from("192.0.2.1"), from("192.0.2.2"), false},
		{maru.LimitBy{What: "all"}, from("192.0.2.1"), from("192.0.2.2"), true},
		{maru.LimitBy{}, from("2001:db8::1"), from("2001:db8::2:3"), true},
		{maru.LimitBy{}, from("2001:db8::1"), from("2001:db8:0:1::1"), false},
		{maru.LimitBy{Header: "x-tenant"}, tenant("a", "192.0.2.1"), tenant("a", "192.0.2.2"), true},
		{maru.LimitBy{Header: "X-Tenant"}, tenant("a", "192.0.2.1"), tenant("b", "192.0.2.1"), false},
		{maru.LimitBy{Header: "X-Tenant"}, from("192.0.2.1"), from("192.0.2.2"), false},
		{maru.LimitBy{What: "user"}, user, from("192.0.2.1"), false},
	} {
		s, err := newRateLimit(maru.RateLimit{Requests: 1, Per: time.Hour, By: c.by})
		if err != nil {
			t.Fatal(err)
		}
		if s.take(c.a) != nil || s.take(c.a) == nil {
			t.Fatalf("%+v: not one request", c.by)
		}
		if same := s.take(c.b) != nil; same != c.same {
			t.Errorf("%+v: the same client: %v", c.by, same)
		}
	}
	for _, l := range []maru.RateLimit{{}, {Requests: 1}, {Per: time.Second}, {Requests: 1, Per: time.Hour, Burst: 1 << 40}, {Requests: 1, Per: time.Second, By: maru.LimitBy{What: "moon"}}} {
		if _, err := newRateLimit(l); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// TestMemoryIsBounded: who comes with a million addresses does not fill the memory, and those that came
// last are known.
func TestMemoryIsBounded(t *testing.T) {
	s, err := newRateLimit(maru.RateLimit{Requests: 1, Per: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) *Exchange {
		x := from("192.0.2.1")
		x.Source = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		return x
	}
	const many = 1_000_000
	for i := range many {
		s.take(at(i))
	}
	known := 0
	for i := range s.cells.shards {
		known += len(s.cells.shards[i].young) + len(s.cells.shards[i].old)
	}
	if known > 2*cellShards*shardCells {
		t.Errorf("%d clients are known", known)
	}
	for i := many - 10_000; i < many; i++ {
		if s.take(at(i)) == nil {
			t.Fatalf("client %d is forgotten", i)
		}
	}
}

func BenchmarkRateLimit(b *testing.B) {
	s, err := newRateLimit(maru.RateLimit{Requests: 1_000_000, Per: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		key, interval := uint64(1), s.interval
		for p.Next() {
			key = key*6364136223846793005 + 1442695040888963407
			s.cells.take(key>>48, s.now(), interval, interval*10)
		}
	})
}
