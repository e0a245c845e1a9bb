package traffic_test

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	s := mirrored(t, guarded(maru.RoutePolicy{Limits: []maru.RateLimit{{Requests: 60, Per: time.Hour, Burst: 3}, {Requests: 1000, Per: time.Hour, By: maru.LimitBy{What: "all"}}}}))
	w.set(s)
	var last *http.Response
	for i := range 4 {
		res, body := w.spell("GET", "a.test", "/", "X-Forwarded-For: 192.0.2.1", "Accept: application/json")
		if last = res; (res.StatusCode == 200) != (i < 3) || i == 3 && !strings.Contains(body, `"hint":"Wait 60 s`) {
			t.Fatalf("%d: %d %q", i, res.StatusCode, body)
		}
		if i == 0 && (res.Header["Ratelimit"] == nil || !strings.Contains(strings.Join(res.Header["Ratelimit"], " "), `"address";r=2;t=60`) ||
			!strings.Contains(strings.Join(res.Header["Ratelimit-Policy"], " "), `"address";q=3;w=180`) || len(res.Header["Ratelimit"]) != 2) {
			t.Errorf("%v", res.Header)
		}
		s.Endpoints[0].Draining = false
		w.set(s) // what was counted is not forgotten
	}
	if h := last.Header; last.StatusCode != 429 || h.Get("Retry-After") != "60" || h.Get("RateLimit") != `"address";r=0;t=180` {
		t.Errorf("%d %v", last.StatusCode, last.Header)
	}
	if res, _ := w.spell("GET", "a.test", "/", "X-Forwarded-For: 192.0.2.2"); res.StatusCode != 200 {
		t.Errorf("another client is answered %d", res.StatusCode)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	w := newWorld(t, nil)
	release, arrived := make(chan struct{}), make(chan struct{}, 10)
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
	})))
	s.Routes = []maru.Route{
		guarded(maru.RoutePolicy{Concurrency: &maru.ConcurrencyLimit{Requests: 2}}),
		{Host: "b.test", Policy: &maru.RoutePolicy{Concurrency: &maru.ConcurrencyLimit{Requests: 2, By: maru.LimitBy{What: "address"}}}},
	}
	w.set(s)
	for host, status := range map[string]int{"a.test": 503, "b.test": 429} {
		var under sync.WaitGroup
		for range 2 {
			under.Go(func() {
				if res, err := http.DefaultClient.Do(w.request("GET", host, "/")); err != nil || res.StatusCode != 200 {
					t.Error(res, err)
				}
			})
			<-arrived
		}
		if res, _ := w.spell("GET", host, "/"); res.StatusCode != status || res.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %d %v", host, res.StatusCode, res.Header)
		}
		release <- struct{}{}
		release <- struct{}{}
		under.Wait()
		go func() { <-arrived; release <- struct{}{} }()
		eventually(t, "there is room again", func() bool {
			res, _ := w.spell("GET", host, "/")
			return res.StatusCode == 200
		})
	}
}
