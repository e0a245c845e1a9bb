package endtoend

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// ROLLOUT is what a test has there.
const gradual = `
name: site
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "VALUE", FAIL: "BAD"}
    deploy: {replicas: 2}
    x-maru:
      route: site.localhost
      health: /healthz
      rollout: ROLLOUT
`

func site(version, bad, rollout string) string {
	return strings.NewReplacer("VALUE", version, "BAD", bad, "ROLLOUT", rollout).Replace(gradual)
}

// users send requests to a host, so many a second.
type users struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	seen []answer
}

type answer struct {
	at      time.Time // when it was there
	version string    // "": it failed
	reason  string
}

func startUsers(t *testing.T, m *machine, host string, rate int) *users {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	u := &users{cancel: cancel}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	u.running.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				u.running.Go(func() { u.ask(ctx, client, m.HTTP, host) })
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { u.stop(); transport.CloseIdleConnections() })
	return u
}

func (u *users) ask(ctx context.Context, client *http.Client, at, host string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/", nil)
	if err != nil {
		return
	}
	request.Host = host
	response, err := client.Do(request)
	if ctx.Err() != nil {
		return
	}
	a := answer{at: time.Now()}
	if err != nil {
		a.reason = err.Error()
	} else {
		var who map[string]string
		err = json.NewDecoder(response.Body).Decode(&who)
		response.Body.Close()
		if a.version = who["version"]; err != nil || response.StatusCode != 200 {
			a.version, a.reason = "", response.Status
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, a)
}

func (u *users) stop() {
	u.cancel()
	u.running.Wait()
}

// answers are those since t.
func (u *users) answers(since time.Time) []answer {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []answer
	for _, a := range u.seen {
		if !a.at.Before(since) {
			out = append(out, a)
		}
	}
	return out
}

func reached(all []answer, version string) int {
	n := 0
	for _, a := range all {
		if a.version == version {
			n++
		}
	}
	return n
}

func failures(all []answer) []answer {
	return slices.DeleteFunc(slices.Clone(all), func(a answer) bool { return a.version != "" })
}

const errorsOnly = `{strategy: canary, judge: {latency: false}}`

// rolloutsOf says how many rollouts a test takes back: a few in the suite, MARU_CANARY_ROLLOUTS else.
func rolloutsOf(few int) int {
	if n, err := strconv.Atoi(os.Getenv("MARU_CANARY_ROLLOUTS")); err == nil {
		return n
	}
	return few
}

// TestWorseCanaryIsTakenBack gives 5% of 200 requests a second to a release that fails half of them.
func TestWorseCanaryIsTakenBack(t *testing.T) {
	rounds := rolloutsOf(3)
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, site("good", "0", errorsOnly))
	u := startUsers(t, m, "site.localhost", 200)
	var failed []int
	var took []time.Duration
	for i := range rounds {
		began := time.Now()
		_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, site("bad"+strconv.Itoa(i), "50", errorsOnly)))
		if code != 3 || !strings.Contains(errors, "fails more often than the old release at the same time") {
			t.Fatalf("exit code %d: %s", code, errors)
		}
		bad := failures(u.answers(began))
		if len(bad) == 0 {
			t.Fatal("no request failed: it had no traffic")
		}
		failed = append(failed, len(bad))
		took = append(took, bad[len(bad)-1].at.Sub(bad[0].at))
		if after := m.status(t, "site"); after.Services[0].Release != 1 || after.Rollout.Phase != "rolled-back" {
			t.Fatalf("%+v", after)
		}
	}
	slices.Sort(failed)
	slices.Sort(took)
	t.Logf("%d rollouts: failed requests %d at the median, %d at most; from the first to the last of them %s at the median, %s at most",
		rounds, failed[len(failed)/2], failed[len(failed)-1], took[len(took)/2], took[len(took)-1])
	if median, most := failed[len(failed)/2], failed[(len(failed)-1)*99/100]; median > 15 || most > 40 {
		t.Errorf("%d requests failed at the median, %d at p99; want at most 15 and 40: %v", median, most, failed)
	}
	if most := took[len(took)-1]; most > 5*time.Second {
		t.Errorf("%s from the first failed request to the last one", most)
	}
	out := m.maru(t, "releases", "--app", "site")
	if !strings.Contains(out, "fails more often than the old release") {
		t.Errorf("releases don't tell the verdict:\n%s", out)
	}
}

// TestSlowCanaryIsTakenBack gives 5% of 200 requests a second to a release that takes three times as long for each.
func TestSlowCanaryIsTakenBack(t *testing.T) {
	rounds := rolloutsOf(1)
	slow := func(version, latency string) string {
		return strings.Replace(site(version, "0", "canary"), "environment: {", "environment: {LATENCY: "+latency+", ", 1)
	}
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, slow("good", "5ms"))
	u := startUsers(t, m, "site.localhost", 200)
	var took []time.Duration
	for i := range rounds {
		began, version := time.Now(), "slow"+strconv.Itoa(i)
		_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, slow(version, "15ms")))
		if code != 3 || !strings.Contains(errors, "slower than the old release at the same time") {
			t.Fatalf("exit code %d: %s", code, errors)
		}
		var reached []time.Time
		for _, a := range u.answers(began) {
			if a.version == version {
				reached = append(reached, a.at)
			}
		}
		if len(reached) == 0 {
			t.Fatal("it had no traffic")
		}
		took = append(took, reached[len(reached)-1].Sub(reached[0]))
	}
	u.stop()
	slices.Sort(took)
	t.Logf("%d rollouts: from the first to the last request that reached the slow release %s at the median, %s at most", rounds, took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > time.Minute {
		t.Errorf("the slow release was there for %s", median)
	}
}

// TestColdInstancesAreComparedWithColdOnes: the first 1,500 requests of each instance are five times as slow as the others.
// Beside warm instances a release that is as good looks worse for it; beside a fresh baseline it does not.
func TestColdInstancesAreComparedWithColdOnes(t *testing.T) {
	const steps = "{strategy: canary, steps: [{weight: 25%, for: 5s}, {weight: 50%, for: 5s}], warmup: 1s, judge: {margins: {errors: 5%, latency: 100%}}BASELINE}"
	cold := func(version, baseline string) string {
		return strings.Replace(site(version, "0", strings.Replace(steps, "BASELINE", baseline, 1)), "environment: {", `environment: {LATENCY: 10ms, WARMUP: "1500", `, 1)
	}
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, cold("one", ""))
	u := startUsers(t, m, "site.localhost", 200)
	began := time.Now()
	eventually(t, "what serves is warm", func() bool { return reached(u.answers(began), "one") > 3500 })
	out, told, code := m.try(t, "deploy", "-f", writeCompose(t, cold("two", "")))
	if code != 3 || !strings.Contains(told, "slower than the old release at the same time") {
		t.Fatalf("without a baseline: exit code %d: %s%s", code, out, told)
	}
	m.deploy(t, cold("three", ", baseline: fresh"), "--detach")
	eventually(t, "the baseline has its share", func() bool {
		return strings.Contains(m.maru(t, "rollout", "status", "--app", "site"), "compared with a fresh baseline of release 1: 1 of 1 instances ready")
	})
	within(t, 5*time.Minute, "the rollout ends", func() bool {
		return slices.Contains([]string{"succeeded", "rolled-back", "failed"}, m.status(t, "site").Rollout.Phase)
	})
	if s := m.status(t, "site"); s.Rollout.Phase != "succeeded" || len(s.Of("web").Instances) != 2 {
		t.Errorf("with a fresh baseline: %+v", s)
	}
	if bad := failures(u.answers(began)); len(bad) > 0 {
		t.Errorf("%d requests failed: %+v", len(bad), bad[0])
	}
}

// TestReplayCatchesWhatNobodyAsksFor has a release that fails everything judged by requests of before, as nobody comes
// meanwhile.
func TestReplayCatchesWhatNobodyAsksFor(t *testing.T) {
	const replayed = "{strategy: canary, replay: true, judge: {latency: false}}"
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, site("good", "0", replayed))
	m.who(t, "site.localhost")
	shared := make(chan time.Time, 1)
	go func() {
		defer close(shared)
		if host.Wait(t.Context(), time.Minute, func() bool {
			result, err := m.Run(t.Context(), "rollout", "status", "--app", "site")
			return err == nil && strings.Contains(result.Out, "5%")
		}) {
			shared <- time.Now()
		}
	}()
	_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, site("bad", "100", replayed)))
	if code != 3 || !strings.Contains(errors, "fails more often than the old release at the same time") {
		t.Fatalf("exit code %d: %s", code, errors)
	}
	if began, ok := <-shared; ok {
		took := time.Since(began)
		t.Logf("taken back within %s of its first share", took)
		if took > 30*time.Second {
			t.Errorf("it had its share for %s", took)
		}
	}
	if who := m.who(t, "site.localhost"); who["version"] != "good" {
		t.Errorf("%v serves", who)
	}
}

const quick = `{strategy: canary, steps: [{weight: 20%, for: 1s, requests: 20}, {weight: 50%, for: 1s}], judge: {latency: false, margins: {errors: 5%}}}` // where tests run, latency tells how busy the machine is

func TestGoodCanaryIsPromoted(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, site("one", "0", quick))
	u := startUsers(t, m, "site.localhost", 500)
	began := time.Now()
	out, told, code := m.try(t, "deploy", "-f", writeCompose(t, site("two", "0", quick)))
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, told)
	}
	promoted := time.Now()
	eventually(t, "all requests reach the new release", func() bool { return reached(u.answers(promoted), "two") > 50 })
	u.stop()
	if bad := failures(u.answers(began)); len(bad) > 0 {
		t.Errorf("%d requests failed: %+v", len(bad), bad[0])
	}
	if n := reached(u.answers(promoted.Add(100*time.Millisecond)), "one"); n > 0 {
		t.Errorf("%d requests reached the old release after it was replaced", n)
	}
	for _, want := range []string{"release 2 has 20% of the traffic, step 1 of 2", "release 2 has 50% of the traffic, step 2 of 2"} {
		if !strings.Contains(told, want) {
			t.Errorf("deploy does not tell %q:\n%s", want, told)
		}
	}
	if out := m.maru(t, "rollout", "status", "--app", "site"); !strings.Contains(out, "as good as the old release") {
		t.Errorf("the verdict is not told:\n%s", out)
	}
	if out := m.maru(t, "releases", "--app", "site", "--service", "web"); !strings.Contains(out, "equivalent") {
		t.Errorf("releases don't tell the verdict:\n%s", out)
	}
}

func TestUsersSeeNothingOfWhatNeverServes(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, site("one", "0", "canary"))
	u := startUsers(t, m, "site.localhost", 200)
	for name, compose := range map[string]string{
		"never ready":  strings.Replace(site("two", "0", "{strategy: canary, deadline: 2s}"), "environment: {", "environment: {READY_AFTER: never, ", 1),
		"crashes":      strings.Replace(site("two", "0", "canary"), "environment: {", `environment: {EXIT: "7", `, 1),
		"leaks":        strings.Replace(site("two", "0", "{strategy: canary, judge: {latency: false}}\n    mem_limit: 64m"), "environment: {", `environment: {LEAK: "8", `, 1),
		"release step": site("two", "0", "canary\n      release: /service fail"),
	} {
		began := time.Now()
		if _, errors, code := m.try(t, "deploy", "-f", writeCompose(t, compose)); code != 3 {
			t.Fatalf("%s: exit code %d: %s", name, code, errors)
		}
		all := u.answers(began)
		if bad := failures(all); len(bad) > 0 {
			t.Errorf("%s: %d of %d requests failed: %+v", name, len(bad), len(all), bad[0])
		}
		if n := reached(all, "two"); (n > 0) != (name == "leaks") {
			t.Errorf("%s: %d of %d requests reached the new release", name, n, len(all))
		}
	}
}

func TestBlueGreenAndBack(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, site("blue", "0", "blue-green"))
	u := startUsers(t, m, "site.localhost", 500)
	began := time.Now()
	m.deploy(t, site("green", "0", "blue-green"))
	switched := time.Now()
	eventually(t, "the new release serves", func() bool { return reached(u.answers(switched), "green") > 50 })
	if n := reached(u.answers(switched), "blue"); n > 0 {
		t.Errorf("%d requests reached the old release after the switch", n)
	}
	if s := m.status(t, "site"); !strings.Contains(s.Services[0].Message, "release 1 is kept warm") || len(s.Of("web").Instances) != 4 {
		t.Errorf("status %+v", s.Services[0])
	}
	back := time.Now()
	m.maru(t, "abort", "--app", "site", "--detach")
	returned := time.Now()
	eventually(t, "the old release serves", func() bool { return reached(u.answers(returned), "blue") > 50 })
	u.stop()
	last := back
	for _, a := range u.answers(back) {
		if a.version == "green" {
			last = a.at
		}
	}
	t.Logf("the last request reached the release that was taken back %s after maru abort began", last.Sub(back))
	if bad := failures(u.answers(began)); len(bad) > 0 {
		t.Errorf("%d requests failed: %+v", len(bad), bad[0])
	}
}

// TestRolloutOutlivesTheServer kills the server while traffic shifts: the release keeps its share, and goes on.
func TestRolloutOutlivesTheServer(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	const steps = `{strategy: canary, steps: [{weight: 50%, pause: true}], judge: false}`
	m.deploy(t, site("one", "0", steps))
	u := startUsers(t, m, "site.localhost", 200)
	began := time.Now()
	m.deploy(t, site("two", "0", steps), "--detach")
	shared := func(since time.Time) func() bool {
		return func() bool {
			all := u.answers(since)
			one, two := reached(all, "one"), reached(all, "two")
			return len(all) > 400 && one > len(all)/3 && two > len(all)/3
		}
	}
	eventually(t, "half of the requests reach the new release", func() bool {
		out := m.maru(t, "rollout", "status", "--app", "site")
		return strings.Contains(out, "waits for maru promote")
	})
	now := time.Now()
	eventually(t, "half of the requests reach the new release", shared(now))
	kill(t, m, "server")
	now = time.Now()
	eventually(t, "it stays so without the server", shared(now))
	eventually(t, "the server is back", func() bool { _, _, code := m.try(t, "status", "--app", "site"); return code == 0 })
	if out := m.maru(t, "rollout", "status", "--app", "site"); !strings.Contains(out, "1: 50%, 2: 50%") {
		t.Errorf("after the server's end:\n%s", out)
	}
	m.maru(t, "promote", "--app", "site")
	eventually(t, "the rollout is done", func() bool { return m.status(t, "site").Rollout.Phase == "succeeded" })
	u.stop()
	if bad := failures(u.answers(began)); len(bad) > 0 {
		t.Errorf("%d requests failed: %+v", len(bad), bad[0])
	}
}

// kill ends one of the platform's processes with SIGKILL.
func kill(t *testing.T, m *machine, process string) {
	t.Helper()
	var health struct {
		Processes []struct {
			Name string      `json:"name"`
			PID  json.Number `json:"pid"`
		} `json:"processes"`
	}
	if err := json.Unmarshal([]byte(m.maru(t, "status", "--platform", "-o", "json")), &health); err != nil {
		t.Fatal(err)
	}
	for _, p := range health.Processes {
		if p.Name == process {
			pid := strings.Trim(p.PID.String(), `"`)
			if out, err := exec.Command("kill", "-9", pid).CombinedOutput(); err != nil {
				t.Fatalf("kill %s: %v\n%s", filepath.Base(process), err, out)
			}
			return
		}
	}
	t.Fatalf("no process %s: %+v", process, health)
}
