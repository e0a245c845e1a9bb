package endtoend

import (
	"encoding/json"
	"strings"
	"testing"
)

const web = `
name: site
services:
  web:
    image: example.test/service:1
    environment: {VERSION: "VALUE"}
    x-maru:
      route: site.localhost
      health: /healthz
`

func TestDeployServeChangeAndRollBack(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	one := strings.ReplaceAll(web, "VALUE", "one")
	m.deploy(t, one)
	first := m.who(t, "site.localhost")
	if first["version"] != "one" {
		t.Fatalf("version %q serves", first["version"])
	}

	if out := m.deploy(t, one); !strings.Contains(out, "nothing changed") {
		t.Errorf("a deploy without changes says %q", out)
	}
	if again := m.who(t, "site.localhost"); again["instance"] != first["instance"] {
		t.Errorf("a deploy without changes replaced %s by %s", first["instance"], again["instance"])
	}

	m.deploy(t, strings.ReplaceAll(web, "VALUE", "two"))
	if now := m.who(t, "site.localhost"); now["version"] != "two" {
		t.Errorf("version %q serves after the second deploy", now["version"])
	}
	m.maru(t, "rollback", "--app", "site")
	if now := m.who(t, "site.localhost"); now["version"] != "one" {
		t.Errorf("version %q serves after the rollback", now["version"])
	}
	if code, body := m.get(t, "other.localhost", "/"); code != 404 {
		t.Errorf("an unknown host answers %d: %s", code, body)
	}
}

func TestBadReleaseIsTakenBack(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(web, "VALUE", "good"))
	bad := strings.ReplaceAll(web, `VERSION: "VALUE"`, `VERSION: "bad", READY_AFTER: "never"`)
	bad = strings.ReplaceAll(bad, "health: /healthz", "health: /healthz\n      rollout: {deadline: 2s}")
	_, errors, code := m.try(t, "deploy", "-f", writeCompose(t, bad))
	if code != 3 {
		t.Errorf("exit code %d, not 3", code)
	}
	if !strings.Contains(errors, "the cache is not warm") {
		t.Errorf("the last answer of the probe is not told: %s", errors)
	}
	if now := m.who(t, "site.localhost"); now["version"] != "good" {
		t.Errorf("version %q serves", now["version"])
	}
	if s := m.status(t, "site"); s.Rollout.Phase != "rolled-back" {
		t.Errorf("the rollout is %s", s.Rollout.Phase)
	}
}

func TestCrashIsHealedAndExplained(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(web, "VALUE", "one"))
	before := m.status(t, "site").Of("web").Instances[0]
	m.do(t, "POST", "site.localhost", "/exit?code=7")
	eventually(t, "the instance is restarted", func() bool {
		now := m.status(t, "site").Of("web").Instances
		return len(now) == 1 && now[0].Ready && now[0].Attempt > before.Attempt
	})
	now := m.status(t, "site").Of("web").Instances[0]
	if now.ID != before.ID || now.AddressV4 != before.AddressV4 {
		t.Errorf("instance %s at %s became %s at %s", before.ID, before.AddressV4, now.ID, now.AddressV4)
	}
	out := m.maru(t, "events", "--app", "site")
	if !strings.Contains(out, "code 7") {
		t.Errorf("events don't tell the exit code:\n%s", out)
	}
	if out := m.maru(t, "logs", "--app", "site", "web"); !strings.Contains(out, "told to end with code 7") {
		t.Errorf("logs of the crash are missing:\n%s", out)
	}
}

const twoApps = `
name: NAME
services:
  web:
    image: example.test/service:1
    x-maru: {route: NAME.localhost, health: /healthz}
  db:
    image: example.test/service:1
    environment: {VERSION: NAME}
    expose: ["8080"]
`

func TestAppsNeverMeet(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	for _, name := range []string{"red", "blue"} {
		m.deploy(t, strings.ReplaceAll(twoApps, "NAME", name))
	}
	for _, name := range []string{"red", "blue"} {
		code, body := m.get(t, name+".localhost", "/fetch?url=http://db:8080/")
		var who map[string]string
		if err := json.Unmarshal([]byte(body), &who); err != nil || who["version"] != name {
			t.Errorf("db of %s: %d %s", name, code, body)
		}
	}
	blue := m.status(t, "blue").Of("db").Instances[0]
	if code, body := m.get(t, "red.localhost", "/dial?address="+blue.AddressV4+":8080"); code == 200 {
		t.Errorf("red reaches blue's database: %s", body)
	}
	if code, body := m.get(t, "red.localhost", "/resolve?name=db.blue.internal"); code == 200 {
		t.Errorf("red resolves blue's database: %s", body)
	}
}

const keeper = `
name: keeper
services:
  store:
    image: example.test/service:1
    environment: {VERSION: "VALUE"}
    volumes: [data:/data]
    x-maru: {route: keeper.localhost, health: /healthz}
volumes:
  data:
`

func TestVolumeOutlivesReleases(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(keeper, "VALUE", "one"))
	if code, body := m.get(t, "keeper.localhost", "/file?path=/data/from-image"); code != 200 {
		t.Errorf("the volume did not start as a copy of the image's folder: %d %s", code, body)
	}
	if code, body := m.do(t, "PUT", "keeper.localhost", "/file?path=/data/mine"); code != 200 {
		t.Fatalf("write: %d %s", code, body)
	}
	m.deploy(t, strings.ReplaceAll(keeper, "VALUE", "two"))
	if now := m.who(t, "keeper.localhost"); now["version"] != "two" {
		t.Errorf("version %q serves", now["version"])
	}
	if code, body := m.get(t, "keeper.localhost", "/file?path=/data/mine"); code != 200 {
		t.Errorf("the file is gone: %d %s", code, body)
	}
}
