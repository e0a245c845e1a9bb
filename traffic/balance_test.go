package traffic_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/marucloud/maru"
)

// TestHashByRequest: requests with the same key go to the same instance, whatever the key is made of.
func TestHashByRequest(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startInstance(t, "a", say("a")), startInstance(t, "b", say("b")), startInstance(t, "c", say("c")))
	client := &http.Client{Transport: &http.Transport{}}
	ask := func(change func(*http.Request)) string {
		r := w.request("GET", "web.test", "/")
		change(r)
		res, err := client.Do(r)
		_, body := text(t, res, err)
		return body
	}
	for name, c := range map[string]struct {
		balance maru.Balance
		key     func(r *http.Request, v string)
		keys    int // instances that ten values lead to, at least
	}{
		"header":  {maru.Balance{Policy: maru.Hash, Header: "X-User"}, func(r *http.Request, v string) { r.Header.Set("x-user", v) }, 2},
		"cookie":  {maru.Balance{Policy: maru.Hash, Cookie: "session"}, func(r *http.Request, v string) { r.Header.Set("Cookie", "a=b; session="+v+"; c=d") }, 2},
		"address": {maru.Balance{Policy: maru.Hash}, func(*http.Request, string) {}, 1},
	} {
		s.Balance = c.balance
		w.set(s)
		all := map[string]bool{}
		for v := range 10 {
			first := ask(func(r *http.Request) { c.key(r, fmt.Sprint("user", v)) })
			all[first] = true
			for range 5 {
				if got := ask(func(r *http.Request) { c.key(r, fmt.Sprint("user", v)) }); got != first {
					t.Errorf("%s %d went to %s, then to %s", name, v, first, got)
				}
			}
		}
		if len(all) < c.keys || name == "address" && len(all) != 1 {
			t.Errorf("%s: ten keys went to %v", name, all)
		}
	}
}

// TestFailingInstance: one that answers quickly that it failed is passed over after a few requests.
func TestFailingInstance(t *testing.T) {
	w := newWorld(t, nil)
	var failed atomic.Int32
	w.set(web(startInstance(t, "a", say("a")), startInstance(t, "b", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		failed.Add(1)
		rw.WriteHeader(http.StatusInternalServerError)
	})), startInstance(t, "c", say("c"))))
	for range 300 {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		text(t, res, err)
	}
	if n := failed.Load(); n == 0 || n > 20 {
		t.Errorf("it got %d of 300 requests", n)
	}
}
