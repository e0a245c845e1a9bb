package connect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

var id = maru.Scope{Project: "p", Environment: "e", App: "shop"}.Service("web")

func put(t *testing.T, x *table.Table, ready ...bool) *table.Service {
	t.Helper()
	s := maru.ServiceTraffic{Service: id}
	for i, r := range ready {
		s.Endpoints = append(s.Endpoints, maru.Endpoint{
			Instance: string(rune('a' + i)), Ready: r, Addresses: maru.Addresses{V4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})},
		})
	}
	if err := x.Update(maru.TrafficUpdate{Services: []maru.ServiceTraffic{s}}); err != nil {
		t.Fatal(err)
	}
	svc, _ := x.Service(id)
	return svc
}

func TestGap(t *testing.T) {
	type waited struct {
		err  error
		took time.Duration
	}
	await := func(t *testing.T, c *Connector, svc *table.Service, tried []*table.Endpoint, last error, meanwhile func()) waited {
		t.Helper()
		began := time.Now()
		done := make(chan error)
		go func() {
			g := Gap{Last: last}
			defer g.End()
			done <- c.Await(t.Context(), svc, tried, &g)
		}()
		synctest.Wait()
		if meanwhile != nil {
			meanwhile()
		}
		return waited{<-done, time.Since(began)}
	}
	refusal := &Error{err: errors.New("refused")}
	for name, f := range map[string]func(t *testing.T, c *Connector, x *table.Table){
		"never ready: no wait": func(t *testing.T, c *Connector, x *table.Table) {
			if got := await(t, c, put(t, x, false), nil, nil, nil); got != (waited{ErrNoEndpoint, 0}) {
				t.Error(got)
			}
		},
		"a moment ago: until one is ready": func(t *testing.T, c *Connector, x *table.Table) {
			put(t, x, true)
			svc := put(t, x, false)
			if got := await(t, c, svc, nil, nil, func() { put(t, x, true) }); got != (waited{nil, 0}) {
				t.Error(got)
			}
		},
		"a moment ago: not for ever": func(t *testing.T, c *Connector, x *table.Table) {
			put(t, x, true)
			if got := await(t, c, put(t, x, false), nil, nil, nil); got != (waited{ErrNoEndpoint, 10 * time.Second}) {
				t.Error(got)
			}
		},
		"long ago: no wait": func(t *testing.T, c *Connector, x *table.Table) {
			put(t, x, true)
			svc := put(t, x, false)
			time.Sleep(11 * time.Second)
			if got := await(t, c, svc, nil, nil, nil); got != (waited{ErrNoEndpoint, 0}) {
				t.Error(got)
			}
		},
		"removed: no wait": func(t *testing.T, c *Connector, x *table.Table) {
			svc := put(t, x, true)
			if err := x.Update(maru.TrafficUpdate{Removed: []maru.ServiceID{id}}); err != nil {
				t.Fatal(err)
			}
			if got := await(t, c, svc, nil, nil, nil); got != (waited{ErrNoEndpoint, 0}) {
				t.Error(got)
			}
		},
		"refuses and never did better: no wait": func(t *testing.T, c *Connector, x *table.Table) {
			svc := put(t, x, true)
			if got := await(t, c, svc, svc.State().Endpoints(), refusal, nil); got != (waited{refusal, 0}) {
				t.Error(got)
			}
		},
		"refuses but was good: a pause": func(t *testing.T, c *Connector, x *table.Table) {
			svc := put(t, x, true)
			svc.State().Endpoints()[0].Connected(time.Now().Add(time.Second))
			if got := await(t, c, svc, svc.State().Endpoints(), refusal, nil); got != (waited{nil, firstPause}) {
				t.Error(got)
			}
		},
		"one is left: no wait": func(t *testing.T, c *Connector, x *table.Table) {
			svc := put(t, x, true, true)
			if got := await(t, c, svc, svc.State().Endpoints()[:1], refusal, nil); got != (waited{nil, 0}) {
				t.Error(got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(Config{Hold: 10 * time.Second, HoldRequests: 10})
				f(t, c, table.New())
				if n := c.waiting.Load(); n != 0 {
					t.Errorf("%d still wait", n)
				}
			})
		})
	}
}

// TestRefusedForLong: pauses grow, and end with the error.
func TestRefusedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Hold: 10 * time.Second, HoldRequests: 10})
		svc := put(t, table.New(), true)
		all := svc.State().Endpoints()
		all[0].Connected(time.Now().Add(time.Second))
		refusal := &Error{err: errors.New("refused")}
		g := Gap{Last: refusal}
		defer g.End()
		began, tries := time.Now(), 0
		var err error
		for ; err == nil; tries++ {
			err = c.Await(t.Context(), svc, all, &g)
		}
		if !errors.Is(err, refusal) || time.Since(began) != refusedHold || tries > 25 {
			t.Fatal(err, time.Since(began), tries)
		}
	})
}

func TestHoldsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Hold: time.Second, HoldRequests: 3})
		x := table.New()
		put(t, x, true)
		svc := put(t, x, false)
		began := time.Now()
		results := make(chan time.Duration, 10)
		for range 10 {
			go func() {
				var g Gap
				defer g.End()
				_ = c.Await(context.Background(), svc, nil, &g)
				results <- time.Since(began)
			}()
		}
		waited := 0
		for range 10 {
			if <-results > 0 {
				waited++
			}
		}
		if waited != 3 {
			t.Fatalf("%d waited", waited)
		}
	})
}

func TestDialTriesTheOtherAddress(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	c := New(Config{})
	ep := &table.Endpoint{Addresses: maru.Addresses{V4: netip.MustParseAddr("127.99.0.1"), V6: netip.MustParseAddr("::1")}}
	conn, err := c.Dial(t.Context(), ep, port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	l.Close()
	_, err = c.Dial(t.Context(), ep, port)
	var refused *Error
	if !errors.As(err, &refused) || Reason(err) != "connection refused" {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if _, err := c.Dial(ended, ep, port); !errors.Is(err, why) {
		t.Fatal(err)
	}
}
