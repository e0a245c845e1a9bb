package endtoend

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

const hogs = `
name: hogs
services:
  hog:
    image: example.test/service:1
    pids_limit: 60
    mem_limit: 96m
    cpus: 0.5
    restart: always
    x-maru: {route: hog.localhost, health: /healthz}
`

const victim = `
name: victim
services:
  web:
    image: example.test/service:1
    x-maru: {route: victim.localhost, health: /healthz}
`

// p99 asks the neighbour a number of times, one after the other with pauses, and gives the slow end.
func (m *machine) p99(t *testing.T, host string) time.Duration {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var took []time.Duration
	for range 300 {
		<-tick.C
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.HTTP+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		began := time.Now()
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		took = append(took, time.Since(began))
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s", host, response.Status)
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestIsolationOfHogs holds what a hog does to its neighbour's p99 against the bar only with
// MARU_TIMINGS, on a machine that does nothing else.
func TestIsolationOfHogs(t *testing.T) {
	const limit = 10 * time.Millisecond
	timings := os.Getenv("MARU_TIMINGS") != ""
	rounds := 1
	if timings {
		rounds = 5
	}
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, victim)
	m.deploy(t, hogs)
	for _, hog := range []struct{ name, path string }{
		{"a CPU hog", "/spin?threads=8&for=1800ms"},
		{"a fork bomb", "/multiply?for=1800ms"},
		{"a memory hog", "/devour?for=1800ms"},
	} {
		t.Run(hog.name, func(t *testing.T) {
			var quiet, busy []time.Duration
			for range rounds {
				eventually(t, "the hog rests", func() bool {
					code, _ := m.get(t, "hog.localhost", "/healthz")
					all := m.status(t, "hogs").Of("hog").Instances
					return code == 200 && len(all) == 1 && all[0].Ready
				})
				quiet = append(quiet, m.p99(t, "victim.localhost"))
				done := make(chan struct{})
				go func() { defer close(done); m.do(t, "POST", "hog.localhost", hog.path) }()
				busy = append(busy, m.p99(t, "victim.localhost"))
				<-done
			}
			slices.Sort(quiet)
			slices.Sort(busy)
			without, with := quiet[rounds/2], busy[rounds/2]
			t.Logf("p99 of the neighbour: %s without, %s with %s", without, with, hog.name)
			if timings && with > max(2*without, without+limit) {
				t.Errorf("%s slows its neighbour: p99 %s, without %s", hog.name, with, without)
			}
		})
	}
	if code, body := m.get(t, "victim.localhost", "/"); code != 200 {
		t.Errorf("the neighbour answers %d %s", code, body)
	}
	if all := m.status(t, "victim").Of("web").Instances; len(all) != 1 || all[0].Attempt != 1 {
		t.Errorf("the neighbour was restarted: %+v", all)
	}
}
