package traffic_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// TestHedge: when an instance does not answer in time, another one is asked as well, and the first answer counts.
func TestHedge(t *testing.T) {
	w := newWorld(t, nil)
	var calls, ended atomic.Int32
	hang := func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 1 { // whoever is asked first
			<-r.Context().Done()
			ended.Add(1)
			return
		}
		fmt.Fprint(rw, "quick")
	}
	s := web(startInstance(t, "a", http.HandlerFunc(hang)), startInstance(t, "b", http.HandlerFunc(hang)))
	s.Retry = maru.Retry{HedgeAfter: 20 * time.Millisecond}
	w.set(s)
	for range 5 {
		began := time.Now()
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		if status, body := text(t, res, err); status != 200 || body != "quick" || time.Since(began) < 20*time.Millisecond {
			t.Fatal(status, body, time.Since(began))
		}
	}
	eventually(t, "those that were not heard were told to stop", func() bool { return ended.Load() == 5 })
	if calls.Load() != 10 {
		t.Errorf("%d calls for 5 requests", calls.Load())
	}
	// What is not safe to do twice is sent once.
	s.Timeout = 200 * time.Millisecond
	w.set(s)
	calls.Store(0)
	res, err := http.DefaultClient.Do(w.request("POST", "web.test", "/"))
	if status, _ := text(t, res, err); status != 504 || calls.Load() != 1 {
		t.Error(status, calls.Load())
	}
}

// TestHedgeByQuantile: what is slow is found by what the others take; and no more than the budget allows is sent twice.
func TestHedgeByQuantile(t *testing.T) {
	w := newWorld(t, nil)
	var calls, slow atomic.Int32
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%50 == 0 {
			slow.Add(1)
			timer := time.NewTimer(10 * time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(rw, "ok")
	})
	s := web(startInstance(t, "a", h), startInstance(t, "b", h), startInstance(t, "c", h))
	s.Retry = maru.Retry{HedgeAt: 0.9}
	w.set(s)
	began := time.Now()
	for range 500 {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		if status, body := text(t, res, err); status != 200 || body != "ok" {
			t.Fatal(status, body)
		}
	}
	if slow.Load() == 0 || time.Since(began) > 9*time.Second {
		t.Error(slow.Load(), time.Since(began))
	}
	if most := int32(500 + 100 + 100 + 100); calls.Load() > most {
		t.Errorf("%d calls for 500 requests", calls.Load())
	}
	eventually(t, "nothing is in flight", func() bool { return len(w.Report().InFlight) == 0 })
}
