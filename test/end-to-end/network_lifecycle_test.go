package endtoend

import (
	"strings"
	"testing"
	"time"
)

const ordered = `
name: ordered
services:
  db:
    image: example.test/service:1
    environment: {READY_AFTER: 1s}
    healthcheck: {test: ["CMD", "/service", "get", "http://127.0.0.1:8080/healthz"], interval: 1s, retries: 30}
    volumes: [data:/data]
  migrate:
    image: example.test/service:1
    command: ["get", "http://db:8080/healthz"]
    depends_on: {db: {condition: service_healthy}}
  web:
    image: example.test/service:1
    depends_on:
      migrate: {condition: service_completed_successfully}
      side: {condition: service_started}
    x-maru: {route: ordered.localhost, health: /healthz}
  side:
    image: example.test/service:1
    environment: {READY_AFTER: 1h}
    expose: ["8080"]
volumes:
  data:
`

func TestComposeOrder(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, ordered)
	m.who(t, "ordered.localhost")
	began := map[string]time.Time{}
	for _, service := range m.status(t, "ordered").Services {
		for _, one := range service.Instances {
			began[service.Name] = one.Started
		}
	}
	if began["web"].Before(began["db"].Add(time.Second)) {
		t.Errorf("web began at %s, before the database that began at %s was healthy", began["web"], began["db"])
	}
	failing := strings.Replace(ordered, "http://db:8080/healthz\"]\n    depends_on", "http://db:8080/nothing\"]\n    depends_on", 1)
	failing = strings.Replace(failing, "route: ordered.localhost", "route: [ordered.localhost, second.localhost]", 1)
	_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, failing))
	if code != 3 || !strings.Contains(errors, "migrate") {
		t.Errorf("a deploy with a job that fails ends with %d: %s", code, errors)
	}
	if code, _ := m.get(t, "second.localhost", "/"); code != 404 {
		t.Errorf("the release that waited for the job serves: %d", code)
	}
	m.who(t, "ordered.localhost")
}

const stepped = `
name: stepped
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "VALUE"}
    volumes: [shared:/data]
    x-maru:
      route: stepped.localhost
      health: /healthz
      rollout: rolling
      release: ["/service", STEP]
volumes:
  shared:
`

func TestComposeReleaseStep(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	with := func(version, step string) string {
		return strings.NewReplacer("VALUE", version, "STEP", step).Replace(stepped)
	}
	m.deploy(t, with("one", `"write", "/data/step", "ran"`))
	if _, body := m.get(t, "stepped.localhost", "/file?path=/data/step"); body != "ran" {
		t.Errorf("the release step left %q", body)
	}
	_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, with("two", `"fail"`)))
	if code != 3 || !strings.Contains(errors, "told to fail") {
		t.Errorf("a deploy whose release step fails ends with %d: %s", code, errors)
	}
	if now := m.who(t, "stepped.localhost"); now["version"] != "one" {
		t.Errorf("version %s serves", now["version"])
	}
	eventually(t, "only the old release's instance is left", func() bool { return len(m.status(t, "stepped").Of("web").Instances) == 1 })
}

const policies = `
name: policies
services:
  always:
    image: example.test/service:1
    restart: always
    x-maru: {route: always.localhost, health: /healthz}
  once: {image: "example.test/service:1", command: ["exit", "0"]}
  thrice:
    image: example.test/service:1
    restart: on-failure:2
    x-maru: {route: thrice.localhost, health: /healthz}
  stubborn:
    image: example.test/service:1
    command: ["idle"]
    environment: {STUBBORN: "yes"}
    stop_signal: SIGUSR1
    stop_grace_period: 1s
  polite:
    image: example.test/service:1
    command: ["idle"]
    stop_signal: SIGQUIT
    stop_grace_period: 1m
  init: {image: "example.test/service:1", init: true, command: ["idle"]}
`

func TestComposeRestartAndStop(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, policies)
	m.do(t, "POST", "always.localhost", "/exit?code=0")
	eventually(t, "the service that always runs is restarted", func() bool {
		all := m.status(t, "policies").Of("always").Instances
		return len(all) == 1 && all[0].Attempt >= 2
	})
	for attempt := 1; attempt <= 3; attempt++ {
		eventually(t, "the service with two restarts runs", func() bool {
			all := m.status(t, "policies").Of("thrice").Instances
			return len(all) == 1 && all[0].Ready && all[0].Attempt == attempt
		})
		m.do(t, "POST", "thrice.localhost", "/exit?code=6")
	}
	eventually(t, "the service with two restarts is given up", func() bool {
		all := m.status(t, "policies").Of("thrice").Instances
		return len(all) == 1 && all[0].Phase == "failed" && all[0].Attempt == 3
	})
	if all := m.status(t, "policies").Of("once").Instances; len(all) != 1 || all[0].Attempt != 1 {
		t.Errorf("what is done runs again: %+v", all)
	}
	never := strings.Replace(policies, `command: ["exit", "0"]}`, `command: ["exit", "5"], restart: "no"}`, 1)
	_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, never))
	if code != 3 || !strings.Contains(errors, "exited with code 5") {
		t.Errorf("a deploy of a service that fails and is not restarted ends with %d: %s", code, errors)
	}
	if out, errors, code := m.try(t, "exec", "--app", "policies", "-T", "init", "/service", "link", "/proc/1/exe"); strings.Contains(out, "/service") {
		t.Errorf("process 1 with init is %q %s %d", out, errors, code)
	}
	began := time.Now()
	m.maru(t, "stop", "--app", "policies")
	eventually(t, "all has stopped", func() bool {
		s := m.status(t, "policies")
		return len(s.Of("stubborn").Instances) == 0 && len(s.Of("polite").Instances) == 0
	})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if out := m.maru(t, "logs", "--app", "policies", "stubborn"); !strings.Contains(out, "got user defined signal 1") {
		t.Errorf("the stubborn one was not told by its signal:\n%s", out)
	}
	if out := m.maru(t, "logs", "--app", "policies", "polite"); !strings.Contains(out, "got quit") {
		t.Errorf("the polite one was not told by its signal:\n%s", out)
	}
	m.maru(t, "stop", "--undo", "--app", "policies")
	eventually(t, "what was stopped runs again", func() bool {
		return len(m.status(t, "policies").Of("polite").Instances) == 1
	})
}

func TestComposeScaleRestartRemove(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(keeper, "VALUE", "one")+"\n")
	m.deploy(t, strings.ReplaceAll(strings.Replace(web, "x-maru:", "deploy: {replicas: 2}\n    x-maru:\n      balance: {policy: round_robin, slow_start: 0}", 1), "VALUE", "one"))
	answering := func() map[string]int {
		seen := map[string]int{}
		for range 30 {
			seen[m.who(t, "site.localhost")["instance"]]++
		}
		return seen
	}
	if seen := answering(); len(seen) != 2 {
		t.Errorf("of two replicas answer %v", seen)
	}
	m.maru(t, "scale", "--app", "site", "web", "4")
	eventually(t, "four instances are ready", func() bool { return m.status(t, "site").Services[0].Ready == 4 })
	if seen := answering(); len(seen) != 4 {
		t.Errorf("of four replicas answer %v", seen)
	}
	m.maru(t, "scale", "--app", "site", "web", "1")
	eventually(t, "one instance is left", func() bool { return len(m.status(t, "site").Of("web").Instances) == 1 })
	before := m.who(t, "site.localhost")["instance"]
	m.maru(t, "restart", "--app", "site")
	if now := m.who(t, "site.localhost")["instance"]; now == before {
		t.Errorf("instance %s answers still after the restart", now)
	}
	m.maru(t, "scale", "--app", "site", "web", "file")
	eventually(t, "two instances are ready", func() bool { return m.status(t, "site").Services[0].Ready == 2 })

	m.do(t, "PUT", "keeper.localhost", "/file?path=/data/mine")
	if out := m.maru(t, "volume", "ls", "--app", "keeper"); !strings.Contains(out, "data") {
		t.Errorf("the volume is not listed:\n%s", out)
	}
	if _, errors, code := m.try(t, "volume", "rm", "--app", "keeper", "data"); code == 0 {
		t.Errorf("a volume in use is removed: %s", errors)
	}
	m.maru(t, "rm", "--app", "keeper", "--yes")
	eventually(t, "the removed app's route is gone", func() bool {
		code, _ := m.get(t, "keeper.localhost", "/")
		return code == 404
	})
	m.deploy(t, strings.ReplaceAll(keeper, "VALUE", "one"))
	if code, _ := m.get(t, "keeper.localhost", "/file?path=/data/mine"); code != 200 {
		t.Errorf("the volume did not outlive its app: %d", code)
	}
	m.maru(t, "rm", "--app", "keeper", "--volumes", "--yes")
	eventually(t, "the volume is gone", func() bool { return !strings.Contains(m.maru(t, "volume", "ls", "--app", "keeper"), "data") })
}
