package traffic_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// split shares a service's requests out between releases 1 and 2.
func split(percent int, change func(*maru.Split), old, fresh *instance) maru.ServiceTraffic {
	s := web(old)
	s.Endpoints = append(s.Endpoints, fresh.endpoint(2))
	slices.SortFunc(s.Endpoints, func(a, b maru.Endpoint) int { return strings.Compare(a.Instance, b.Instance) })
	s.Serving = []maru.Weight{{Release: 1, Weight: 100 - percent}, {Release: 2, Weight: percent}}
	s.Split = &maru.Split{Old: 1, New: 2, Judged: true}
	if change != nil {
		change(s.Split)
	}
	return s
}

func answered(t *testing.T, client *http.Client, r *http.Request) string {
	t.Helper()
	res, err := client.Do(r)
	_, body := text(t, res, err)
	return body
}

// records waits for what is told of so many requests: that is after their answers.
func (w *world) records(n int) []maru.EvidenceRecord {
	w.t.Helper()
	var all []maru.EvidenceRecord
	eventually(w.t, itoa(n)+" requests are told of", func() bool {
		for _, e := range w.Evidence() {
			if e.Service != shop.Service("web") || e.Old != 1 || e.New != 2 {
				w.t.Errorf("%+v", e)
			}
			all = append(all, e.Records...)
		}
		return len(all) >= n
	})
	return all
}

// TestBaselineGetsAsMuch: fresh instances of the old release get as much as the new one, and these two are judged.
func TestBaselineGetsAsMuch(t *testing.T) {
	w := newWorld(t, nil)
	old, fresh, base := startInstance(t, "a-old", say("old")), startInstance(t, "b-new", say("new")), startInstance(t, "c-base", say("base"))
	for percent, block := range map[int]int{5: 20, 1: 100, 50: 20, 75: 20} {
		s := split(percent, func(s *maru.Split) { s.Baseline = true }, old, fresh)
		e := base.endpoint(1)
		e.Baseline = true
		s.Endpoints = append(s.Endpoints, e)
		w.set(s)
		got := map[string]int{}
		for range block {
			got[answered(t, http.DefaultClient, w.request("GET", "web.test", "/"))]++
		}
		beside := min(percent, 100-percent)
		if got["new"]*100 != percent*block || got["base"]*100 != beside*block || got["new"]+got["base"]+got["old"] != block {
			t.Errorf("%d%%: %v", percent, got)
		}
		chosen := 0
		for _, r := range w.records(got["new"] + got["base"]) {
			if r.New {
				chosen++
			}
			if !r.Baseline || r.Weight != float64(percent)/100 {
				t.Errorf("%d%%: %+v", percent, r)
			}
		}
		if chosen != got["new"] {
			t.Errorf("%d%%: %d of the new release are told of, want %d", percent, chosen, got["new"])
		}
	}
	w.set(split(5, func(s *maru.Split) { s.Baseline = true }, old, fresh))
	for range 40 {
		if answered(t, http.DefaultClient, w.request("GET", "web.test", "/")) == "base" {
			t.Error("it reached a baseline that is not there")
		}
	}
	if told := w.Evidence(); len(told) > 0 {
		t.Errorf("without a baseline requests are told of: %+v", told)
	}
}

func TestSharesAreExact(t *testing.T) {
	w := newWorld(t, nil)
	old, fresh := startInstance(t, "a-old", say("old")), startInstance(t, "b-new", say("new"))
	for percent, block := range map[int]int{5: 20, 1: 100, 25: 20, 50: 20} {
		w.set(split(percent, nil, old, fresh))
		for k := range 3 {
			got := 0
			for range block {
				if answered(t, http.DefaultClient, w.request("GET", "web.test", "/")) == "new" {
					got++
				}
			}
			if got*100 != percent*block {
				t.Errorf("%d%%: %d of block %d", percent, got, k)
			}
		}
	}
	seen, fails, chosen := 0, 0, 0
	for _, r := range w.records(3 * (20 + 100 + 20 + 20)) {
		seen++
		if r.New {
			chosen++
		}
		if r.Failed {
			fails++
		}
		if r.Weight <= 0 || r.Latency <= 0 || r.At.IsZero() {
			t.Fatalf("%+v", r)
		}
	}
	if seen != 3*(20+100+20+20) || fails != 0 || chosen != 3*(1+1+5+10) {
		t.Errorf("%d seen, %d of the new release, %d failed", seen, chosen, fails)
	}
}

// TestDrawnRequestsCountByTheirFirstInstance: what a retry at the old release saves counts against the new one.
func TestDrawnRequestsCountByTheirFirstInstance(t *testing.T) {
	w := newWorld(t, nil)
	old := startInstance(t, "a-old", say("old"))
	fresh := startInstance(t, "b-new", say("new"))
	fresh.stop() // nobody listens there
	w.set(split(50, nil, old, fresh))
	for range 40 {
		if got := answered(t, http.DefaultClient, w.request("GET", "web.test", "/")); got != "old" {
			t.Fatalf("answered %q", got)
		}
	}
	var failed, good int
	for _, r := range w.records(40) {
		switch {
		case r.New && r.Failed:
			failed++
		case !r.New && !r.Failed:
			good++
		default:
			t.Errorf("%+v", r)
		}
	}
	if failed != 20 || good != 20 {
		t.Errorf("%d failed, %d good", failed, good)
	}
}

// TestAFailingReleaseKeepsItsShare: it is not passed over for its failures, as the judge has to see them.
func TestAFailingReleaseKeepsItsShare(t *testing.T) {
	w := newWorld(t, nil)
	fresh := startInstance(t, "b-new", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }))
	w.set(split(50, nil, startInstance(t, "a-old", say("old")), fresh))
	failed := 0
	for range 100 {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 500 {
			failed++
		}
	}
	if failed != 50 {
		t.Errorf("%d of 100 reached it", failed)
	}
}

func TestWhoGoesAwayIsNoFailure(t *testing.T) {
	w := newWorld(t, nil)
	slow := func(rw http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	w.set(split(50, nil, startInstance(t, "a-old", http.HandlerFunc(slow)), startInstance(t, "b-new", http.HandlerFunc(slow))))
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/").WithContext(ctx)); err == nil {
			res.Body.Close()
		}
		cancel()
	}
	for _, r := range w.records(4) {
		if r.Failed || r.Latency < 200*time.Millisecond {
			t.Errorf("%+v", r)
		}
	}
}

func TestMatchedRequestsAreLed(t *testing.T) {
	w := newWorld(t, nil)
	w.set(split(0, func(s *maru.Split) {
		s.Match = []maru.ShiftMatch{{Headers: map[string]string{"X-Canary": "always"}}, {Cookies: map[string]string{"beta": "yes"}}}
	}, startInstance(t, "a-old", say("old")), startInstance(t, "b-new", say("new"))))
	for want, change := range map[string]func(*http.Request){
		"old":  func(*http.Request) {},
		"new":  func(r *http.Request) { r.Header.Set("x-canary", "always") },
		"new ": func(r *http.Request) { r.Header.Set("Cookie", "a=b; beta=yes") },
		"old ": func(r *http.Request) { r.Header.Set("X-Canary", "never") },
	} {
		r := w.request("GET", "web.test", "/")
		change(r)
		if got := answered(t, http.DefaultClient, r); got != strings.TrimSpace(want) {
			t.Errorf("%q went to %s", want, got)
		}
	}
	if e := w.Evidence(); len(e) > 0 {
		t.Errorf("what was led tells nothing: %+v", e)
	}
	w.set(split(99, func(s *maru.Split) {
		s.Match = []maru.ShiftMatch{{Headers: map[string]string{"X-Bot": "1"}, Old: true}}
	}, startInstance(t, "c-old", say("old")), startInstance(t, "d-new", say("new"))))
	r := w.request("GET", "web.test", "/")
	r.Header.Set("X-Bot", "1")
	if got := answered(t, http.DefaultClient, r); got != "old" {
		t.Errorf("a bot went to %s", got)
	}
}

// TestClientsStayWithTheirRelease: also while the share grows, but that some move to the new release.
func TestClientsStayWithTheirRelease(t *testing.T) {
	w := newWorld(t, nil)
	old, fresh := startInstance(t, "a-old", say("old")), startInstance(t, "b-new", say("new"))
	sticky := func(s *maru.Split) { s.Sticky = time.Hour }
	w.set(split(25, sticky, old, fresh))
	type user struct {
		client *http.Client
		at     string
	}
	var users []*user
	news := 0
	for range 40 {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		u := &user{client: &http.Client{Jar: jar}}
		r := w.request("GET", "web.test", "/")
		u.at = answered(t, u.client, r)
		if cookies := jar.Cookies(&url.URL{Scheme: "http", Host: r.Host, Path: "/"}); len(cookies) != 1 || cookies[0].Name != "maru-client" {
			t.Fatalf("cookies %v", cookies)
		}
		if u.at == "new" {
			news++
		}
		users = append(users, u)
	}
	if news != 10 {
		t.Errorf("%d of 40 clients have the new release at 25%%", news)
	}
	records := len(w.records(40))
	for _, percent := range []int{25, 25, 60, 60, 99} {
		w.set(split(percent, sticky, old, fresh))
		for _, u := range users {
			now := answered(t, u.client, w.request("GET", "web.test", "/"))
			if u.at == "new" && now != "new" || percent == 25 && now != u.at {
				t.Fatalf("%d%%: a client of the %s release came to the %s one", percent, u.at, now)
			}
			u.at = now
		}
	}
	if e := w.Evidence(); records != 40 || len(e) != 0 {
		t.Errorf("each client counts once: %d, then %+v", records, e)
	}
}

// TestMirror: copies go to the new release; those who asked get the old one's answers, at once.
func TestMirror(t *testing.T) {
	for _, app := range []string{"http", "h2c"} {
		t.Run(app, func(t *testing.T) { mirror(t, app) })
	}
}

func mirror(t *testing.T, app string) {
	w := newWorld(t, nil)
	var copies atomic.Int32
	hold := make(chan struct{})
	fresh := startInstance(t, "b-new", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.RequestURI() != "/a?b=c" || r.Header.Get("X-Mine") != "1" {
			t.Errorf("copy %s %s %v", r.Method, r.URL, r.Header)
		}
		copies.Add(1)
		<-hold
		rw.WriteHeader(500)
	}))
	old := startInstance(t, "a-old", say("old"))
	mirroring := split(0, func(s *maru.Split) { s.Mirror = 100 }, old, fresh)
	mirroring.Ports[0].App = app
	w.set(mirroring)
	began := time.Now()
	for i := range 200 {
		r := w.request("GET", "web.test", "/a?b=c")
		r.Header.Set("X-Mine", "1")
		if i%2 == 1 {
			r, _ = http.NewRequest("POST", "http://"+w.http+"/a?b=c", strings.NewReader("x"))
			r.Host = "web.test"
		}
		if got := answered(t, http.DefaultClient, r); got != "old" {
			t.Fatalf("answered by %s", got)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("200 requests took %s", took)
	}
	eventually(t, "copies arrive, as many as may be under way", func() bool { return copies.Load() == 64 })
	close(hold)
	failed, good := 0, 0
	eventually(t, "both sides of what was copied count", func() bool {
		for _, e := range w.Evidence() {
			for _, r := range e.Records {
				if r.Weight != 0.5 || r.New != r.Failed {
					t.Errorf("%+v", r)
				}
				if r.New {
					failed++
				} else {
					good++
				}
			}
		}
		return failed == 64 && good == 64
	})
}

// TestReplay: while a rollout is judged, requests that came before are sent again to both releases, and nothing in
// them says who asked.
func TestReplay(t *testing.T) {
	for _, app := range []string{"http", "h2c"} {
		t.Run(app, func(t *testing.T) { replay(t, app) })
	}
}

func replay(t *testing.T, app string) {
	w := newWorld(t, nil)
	var replayed [2]atomic.Int32
	side := func(n int, status int) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Maru-Replay") == "" {
				return
			}
			if r.Method != "GET" || r.Host != "web.test" || r.URL.Path != "/a" || r.URL.RawQuery != "b=c" && r.URL.RawQuery != "" ||
				r.Header.Get("Authorization")+r.Header.Get("Cookie")+r.Header.Get("X-Mine")+r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Accept") != "text/x" {
				t.Errorf("replayed %s %s%s %v", r.Method, r.Host, r.URL, r.Header)
			}
			replayed[n].Add(1)
			rw.WriteHeader(status)
		})
	}
	old, fresh := startInstance(t, "a-old", side(0, 200)), startInstance(t, "b-new", side(1, 500))
	before := web(old)
	before.Replay, before.Ports[0].App = 100, app
	w.set(before)
	ask := func(method, target string) {
		r := w.request(method, "web.test", target)
		for name, value := range map[string]string{"Authorization": "Bearer x", "Cookie": "a=b", "X-Mine": "1", "Accept": "text/x"} {
			r.Header.Set(name, value)
		}
		answered(t, http.DefaultClient, r)
	}
	for _, target := range []string{"/a?api_key=1", "/a?X-Amz-Signature=1", "/a?access%5Ftoken=1"} {
		ask("GET", target)
	}
	ask("DELETE", "/a")
	ask("GET", "/a?b=c") // the first that is kept
	shifting := split(25, nil, old, fresh)
	shifting.Replay, shifting.Ports[0].App = 100, app
	w.set(shifting)
	var failed, good int
	eventually(t, "both releases are judged by what is replayed", func() bool {
		for _, e := range w.Evidence() {
			for _, r := range e.Records {
				if !r.Replayed || r.Weight != 0.25 || r.New != r.Failed {
					t.Errorf("%+v", r)
				}
				if r.New {
					failed++
				} else {
					good++
				}
			}
		}
		return failed > 5 && good > 5
	})
	before.Replay = 0
	w.set(before)
	eventually(t, "what was under way is done", func() bool { return len(w.Evidence()) == 0 })
	seen := replayed[0].Load() + replayed[1].Load()
	ask("GET", "/a")
	if now := replayed[0].Load() + replayed[1].Load(); now != seen {
		t.Errorf("%d requests are replayed after the rollout", now-seen)
	}
}
