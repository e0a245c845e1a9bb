package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 20 << 20: "20 MiB", 3 << 40: "3.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", 3 * time.Minute: "3m", 5 * time.Hour: "5h", 72 * time.Hour: "3d"} {
		if got := short(d); got != want {
			t.Errorf("short(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestShortImage(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io/library/nginx:1": "nginx:1",
		"docker.io/library/nginx@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": "nginx@0123456789ab",
		"ghcr.io/a/b:2": "ghcr.io/a/b:2",
	} {
		if got := shortImage(in); got != want {
			t.Errorf("shortImage(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for _, c := range []struct {
		arg, local string
		remote     uint16
		ok         bool
	}{{"5432", "5432", 5432, true}, {"8081:80", "8081", 80, true}, {"0:80", "0", 80, true}, {"80:0", "", 0, false}, {"x", "", 0, false}, {"1:2:3", "", 0, false}, {"70000", "", 0, false}} {
		local, remote, err := ports(c.arg)
		if (err == nil) != c.ok || local != c.local || remote != c.remote {
			t.Errorf("ports(%q) = %q, %d, %v", c.arg, local, remote, err)
		}
	}
}

func TestMoment(t *testing.T) {
	if at, err := moment("10m"); err != nil || time.Since(at.AsTime()).Round(time.Minute) != 10*time.Minute {
		t.Errorf("10m is %v, %v", at, err)
	}
	if at, err := moment("2w"); err != nil || time.Now().AddDate(0, 0, -14).Sub(at.AsTime()).Abs() > time.Minute {
		t.Errorf("2w: %v %v", at, err)
	}
	if at, err := moment("2026-01-02T15:04:05Z"); err != nil || !at.AsTime().Equal(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)) {
		t.Errorf("got %v, %v", at, err)
	}
	for _, bad := range []string{"-5m", "soon", "25:00"} {
		if _, err := moment(bad); err == nil {
			t.Errorf("%q is taken for a time", bad)
		}
	}
}

func TestLoginsForTheAppsRegistriesOnly(t *testing.T) {
	config := []byte(`{"auths": {
		"https://index.docker.io/v1/": {"auth": "YW5uOnNlY3JldA=="},
		"ghcr.io": {"username": "bob", "password": "pw"},
		"other.example.com": {"auth": "eDp5"}}}`)
	hosts := registriesOf(maru.App{Services: map[string]maru.Service{"web": {Image: "ghcr.io/a/b:1"}, "db": {Image: "postgres:16"}}})
	want := map[string]string{"docker.io": "ann:secret", "ghcr.io": "bob:pw"}
	got := map[string]string{}
	for host, login := range loginsFor(config, hosts) {
		got[host] = login.Username + ":" + login.Password
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if loginsFor([]byte("{"), hosts) != nil {
		t.Error("a broken file gives logins")
	}
}

func TestBuildFolders(t *testing.T) {
	app := maru.App{Services: map[string]maru.Service{
		"web":    {Build: &maru.Build{Context: "/src/web", Dockerfile: "Dockerfile", Contexts: map[string]string{"lib": "/src/lib", "base": "docker-image://debian"}}},
		"worker": {Build: &maru.Build{Context: "https://example.com/repo.git"}},
		"db":     {Image: "postgres"},
	}}
	want := map[string]string{"/src/web": "Dockerfile", "/src/lib": ""}
	if diff := cmp.Diff(want, buildFolders(app, nil)); diff != "" {
		t.Error(diff)
	}
	if folders := buildFolders(app, []string{"db"}); len(folders) != 0 {
		t.Errorf("a deploy of db reads %v", folders)
	}
}

func TestPattern(t *testing.T) {
	if got := pattern(&maruv1.Scope{App: "shop"}); got != "*/*/shop" {
		t.Errorf("got %s", got)
	}
}
