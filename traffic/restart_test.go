package traffic_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// TestPlannedEnd ends a proxy under load while another one has the same socket.
func TestPlannedEnd(t *testing.T) {
	first := listen(t, "127.0.0.1:0")
	f, err := first.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	second, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	old := newWorld(t, func(cfg *traffic.Config) { cfg.Listeners["http"] = first; cfg.Linger = 300 * time.Millisecond })
	inst := web(startInstance(t, "a", say("a")))
	old.set(inst)
	ctxDone := make(chan struct{})
	failures := make(chan error, 100)
	finished := make(chan int, 8)
	for i := range 8 {
		go func() {
			n := 0
			client := &http.Client{Transport: &http.Transport{}}
			if i%2 == 0 {
				client = h2cClient()
			}
			for {
				select {
				case <-ctxDone:
					finished <- n
					return
				default:
				}
				r, _ := http.NewRequest("POST", "http://"+first.Addr().String()+"/", strings.NewReader("body"))
				r.GetBody = nil // so that the client does not try again by itself
				r.Host = "web.test"
				res, err := client.Do(r)
				if err == nil && res.StatusCode != 200 {
					err = errors.New(res.Status)
				}
				if err != nil {
					failures <- err
					finished <- n
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				n++
			}
		}()
	}
	served := func(w *world) (n uint64) {
		for c := range w.Counts() {
			n += c.Latency.Total()
		}
		return n
	}
	eventually(t, "load", func() bool { return served(old) > 100 })
	fresh := newWorld(t, func(cfg *traffic.Config) { cfg.Listeners["http"] = second })
	fresh.set(inst)
	old.stop()
	before := served(fresh)
	eventually(t, "the other one has it all", func() bool { return served(fresh) > before+100 })
	close(ctxDone)
	for range 8 {
		<-finished
	}
	select {
	case err := <-failures:
		t.Error(err)
	default:
	}
}

// TestEndWithoutSuccessor ends a proxy that idle connections would keep for a minute.
func TestEndWithoutSuccessor(t *testing.T) {
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Linger, cfg.Drain = time.Minute, time.Minute })
	w.set(web(startInstance(t, "a", say("a"))))
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, h2cClient()} {
		res, err := client.Do(w.request("GET", "web.test", "/"))
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	began := time.Now()
	w.end(traffic.ErrNoSuccessor)
	w.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %s", took)
	}
}

// TestCanaryShares sends a known number of requests and counts where they go.
func TestCanaryShares(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startInstance(t, "a", say("1")), startInstance(t, "b", say("1")))
	canary := startInstance(t, "c", say("2")).endpoint(2)
	s.Endpoints = append(s.Endpoints, canary)
	s.Serving = []maru.Weight{{Release: 1, Weight: 95}, {Release: 2, Weight: 5}}
	w.set(s)
	got := map[string]int{}
	for range 200 {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		_, body := text(t, res, err)
		got[body]++
	}
	if got["2"] != 10 {
		t.Errorf("%v", got)
	}
	var counted uint64
	for c := range w.Counts() {
		if c.Service == s.Service && c.Release == 2 && c.Class == 2 {
			counted += c.Latency.Total()
		}
	}
	if counted != 10 {
		t.Errorf("counted %d", counted)
	}
}
