package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

const busy = `
name: busy
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "VALUE"}
    deploy: {replicas: 3}
    ports: ["127.0.0.1:17100:8080"]
    x-maru:
      route: busy.localhost
      health: /healthz
`

// aroundEach is how many requests there are before and after each event: 3 s of the load.
const aroundEach = 1500

// busyMachine runs three instances under load.
func busyMachine(t *testing.T) (*host.Machine, *load) {
	t.Helper()
	m := host.Start(t)
	m.LoadImage(t)
	m.Deploy(t, strings.ReplaceAll(busy, "VALUE", "0"))
	return m, startLoad(t, m.HTTP, m.HTTPS, "busy.localhost")
}

func TestLoadOverRedeploysAndRollback(t *testing.T) {
	m, l := busyMachine(t)
	for n := range 10 {
		m.Deploy(t, strings.ReplaceAll(busy, "VALUE", fmt.Sprint(n+1)))
	}
	m.Do(t, "rollback", "--app", "busy")
	l.more(t, aroundEach) // the last streams on the old instances end meanwhile
	l.report(t, nil)
}

func TestLoadOverKilledInstance(t *testing.T) {
	m, l := busyMachine(t)
	var kills []time.Time
	for _, victim := range m.Instances(t, "busy", "web") {
		kills = append(kills, time.Now())
		if err := m.KillInstance(victim.ID); err != nil {
			t.Fatal(err)
		}
		host.Eventually(t, 30*time.Second, "the killed instance has a successor", func() bool {
			return slices.ContainsFunc(m.Instances(t, "busy", "web"), func(i host.Instance) bool {
				return i.ID == victim.ID && i.Attempt > victim.Attempt && i.Ready
			})
		})
	}
	l.report(t, func(f failure) bool {
		// What is not idempotent, or was open on the instance, ends with it, and soon.
		return f.kind != http1 && f.kind != http2 && slices.ContainsFunc(kills, func(at time.Time) bool {
			return !f.end.Before(at) && f.began.Before(at.Add(time.Second)) && f.end.Before(at.Add(streamLife+requestTimeout/2))
		})
	})
}

// TestLoadOverKilledPlatform kills the control plane and the engine: nobody notices.
func TestLoadOverKilledPlatform(t *testing.T) {
	m, l := busyMachine(t)
	before := m.Instances(t, "busy", "web")
	for _, process := range []string{"server", "runtime", "server", "runtime"} {
		l.more(t, aroundEach)
		former, err := m.Kill(process)
		if err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		host.Eventually(t, 30*time.Second, process+" is back", func() bool { return back(t, m, process, former) })
		took := time.Since(killed)
		t.Logf("%s was back after %s", process, took)
		if took > 3*time.Second {
			t.Errorf("%s took %s to come back", process, took)
		}
	}
	l.more(t, aroundEach)
	sameInstances(t, before, m.Instances(t, "busy", "web"))
	l.report(t, nil)
}

// back tells whether a process that was killed has a successor that does its work.
func back(t *testing.T, m *host.Machine, process string, former int) bool {
	t.Helper()
	if pid := m.PID(process); pid == 0 || pid == former {
		return false
	}
	if process == "runtime" {
		// To read a log takes the engine.
		result, err := m.Run(t.Context(), "logs", "--app", "busy", "-n", "1", "web")
		return err == nil && result.Code == 0
	}
	s, err := m.Status(t.Context(), "busy")
	return err == nil && s.Of("web").Ready == 3
}

func sameInstances(t *testing.T, before, after []host.Instance) {
	t.Helper()
	if len(before) != len(after) {
		t.Errorf("%d instances became %d", len(before), len(after))
		return
	}
	for n := range before {
		if before[n].ID != after[n].ID || before[n].Attempt != after[n].Attempt {
			t.Errorf("instance %s, attempt %d, became %s, attempt %d", before[n].ID, before[n].Attempt, after[n].ID, after[n].Attempt)
		}
	}
}

func TestLoadOverReloads(t *testing.T) {
	m, l := busyMachine(t)
	before := m.Instances(t, "busy", "web")
	for _, process := range []string{"proxy", "server", "runtime", "proxy"} {
		l.more(t, aroundEach)
		began := time.Now()
		if err := m.Reload(process); err != nil {
			t.Error(err)
		}
		t.Logf("reload of %s took %s", process, time.Since(began))
	}
	l.more(t, aroundEach) // the last streams through the old proxy end meanwhile
	host.Eventually(t, 30*time.Second, "all is well", func() bool {
		s, err := m.Status(t.Context(), "busy")
		return err == nil && s.Of("web").Ready == 3
	})
	sameInstances(t, before, m.Instances(t, "busy", "web"))
	l.report(t, nil)
}

// TestLoadOverKilledSupervisor has a new supervisor take over what the killed one held, and then hand it
// to a new proxy.
func TestLoadOverKilledSupervisor(t *testing.T) {
	m, l := busyMachine(t)
	before := m.Instances(t, "busy", "web")
	l.more(t, aroundEach)
	if _, err := m.Kill("start"); err != nil {
		t.Fatal(err)
	}
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload("proxy"); err != nil {
		t.Error(err)
	}
	l.more(t, aroundEach)
	sameInstances(t, before, m.Instances(t, "busy", "web"))
	l.report(t, nil)
}

// TestKilledProxyIsReplaced kills each proxy as soon as it answers, and measures until its successor
// answers on a new connection: in the clear, by TLS and at a published port. None is ever refused.
func TestKilledProxyIsReplaced(t *testing.T) {
	m := host.Start(t)
	m.LoadImage(t)
	m.Deploy(t, strings.ReplaceAll(busy, "VALUE", "0"))
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "busy.localhost"},
	}}
	var took []time.Duration
	for n := range 12 {
		former, err := m.Kill("proxy")
		if err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		host.Eventually(t, 10*time.Second, "the killed proxy is gone", func() bool { return m.PID("proxy") != former })
		address := []string{"http://" + m.HTTP, "https://" + m.HTTPS, "http://127.0.0.1:17100"}[n%3]
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "busy.localhost"
		var code int
		var body []byte
		host.Eventually(t, 10*time.Second, "the gateway answers", func() bool {
			response, err := client.Do(request)
			if errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatal(err)
			}
			if err != nil {
				return false // it was accepted by the one that died
			}
			defer response.Body.Close()
			code = response.StatusCode
			body, err = io.ReadAll(response.Body)
			return err == nil
		})
		took = append(took, time.Since(killed))
		if code != http.StatusOK {
			t.Errorf("the new proxy answers %d: %.300s", code, body)
		}
		host.Eventually(t, 10*time.Second, "the successor is known", func() bool {
			pid := m.PID("proxy")
			return pid != 0 && pid != former
		})
	}
	slices.Sort(took)
	t.Logf("a new proxy answered after %s", took)
	if median := took[len(took)/2]; median > 500*time.Millisecond {
		t.Errorf("the median is %s", median)
	}
	if most := took[len(took)-1]; os.Getenv("MARU_TIMINGS") != "" && most > 500*time.Millisecond {
		t.Errorf("once it took %s", most)
	}
}
