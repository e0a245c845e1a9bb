package acme

import (
	"errors"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/marucloud/maru"
)

func TestPublic(t *testing.T) {
	for host, want := range map[string]bool{
		"shop.example.com": true, "*.example.com": true, "example.com": true, "a.b.co.uk": true, "me.github.io": true,
		"com": false, "co.uk": false, "*.com": false, "*.co.uk": false, "localhost": false, "shop.localhost": false, "web.internal": false,
		"box.lan": false, "printer.local": false, "a.test": false, "x.example": false, "router.home.arpa": false, "a.onion": false,
		"10.0.0.1": false, "::1": false, "box": false, "": false,
	} {
		if Public(host) != want {
			t.Errorf("%q is public: %v", host, !want)
		}
	}
}

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	valid := func(name string, age time.Duration, r record) host {
		return host{name: name, from: now.Add(-age), to: now.Add(90*day - age), record: r}
	}
	later := record{Ask: now.Add(time.Hour)}
	for _, c := range []struct {
		name       string
		hosts      []host
		order, ask string
		again      time.Duration // 0: none
	}{
		{"nobody", nil, "", "", 0},
		{"new", []host{{name: "a"}}, "a", "", 0},
		{"new goes first", []host{valid("a", 80*day, later), {name: "b"}}, "b", "", 0},
		{"fresh", []host{valid("a", day, later)}, "", "", time.Hour},
		{"fresh, the authority is asked", []host{valid("a", day, record{})}, "", "a", 59 * day},
		{"old", []host{valid("a", 61*day, later)}, "a", "", 0},
		{"the authority wants it sooner", []host{valid("a", 10*day, record{Ask: now.Add(time.Hour), Renewal: now})}, "a", "", 0},
		{"the authority wants it later", []host{valid("a", 61*day, record{Ask: now.Add(time.Hour), Renewal: now.Add(day)})}, "", "", time.Hour},
		{"not too late", []host{valid("a", 82*day, record{Ask: now.Add(time.Hour), Renewal: now.Add(8 * day)})}, "a", "", 0},
		{"failed", []host{{name: "a", record: record{Failures: 1, Next: now.Add(time.Minute)}}}, "", "", time.Minute},
		{"failed, its time has come", []host{{name: "a", record: record{Failures: 1, Next: now}}}, "a", "", 0},
		{"renewal failed", []host{valid("a", 61*day, record{Failures: 1, Next: now.Add(time.Minute), Ask: now.Add(time.Hour)})}, "", "", time.Minute},
		{"who failed holds nobody up", []host{{name: "a", record: record{Failures: 1, Next: now.Add(time.Minute)}}, valid("b", 61*day, later)}, "b", "", 0},
		{"the longest due first", []host{valid("a", 61*day, later), valid("b", 70*day, later)}, "b", "", 0},
	} {
		order, ask, again := decide(now, c.hosts)
		name := func(h *host) string {
			if h == nil {
				return ""
			}
			return h.name
		}
		if name(order) != c.order || name(ask) != c.ask || order == nil && ask == nil && (again.IsZero() != (c.again == 0) || !again.IsZero() && again.Sub(now) != c.again) {
			t.Errorf("%s: order %q, ask %q, again in %s", c.name, name(order), name(ask), again.Sub(now))
		}
	}
}

// TestRetries stays below what public authorities take: five failures in an hour, of which one try may have
// two.
func TestRetries(t *testing.T) {
	tries := 1
	at := time.Duration(0)
	for n := 1; ; n++ {
		if at += retryAfter(n); at >= time.Hour {
			break
		}
		tries++
	}
	if 2*tries >= 5 || retryAfter(100) != 24*time.Hour {
		t.Errorf("%d tries in an hour, and then each %s", tries, retryAfter(100))
	}
}

func TestLimits(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	limited := acme.Problem{Type: problemPrefix + "rateLimited", Detail: "too many certificates already issued: retry after 2026-11-30 04:05:06 UTC: see https://letsencrypt.org/docs/rate-limits/"}
	for _, c := range []struct {
		err  error
		want time.Time
	}{
		{limited, time.Date(2026, 11, 30, 4, 6, 6, 0, time.UTC)},
		{errors.Join(errors.New("order"), limited), time.Date(2026, 11, 30, 4, 6, 6, 0, time.UTC)},
		{acme.Problem{Type: problemPrefix + "rateLimited"}, now.Add(6 * time.Hour)},
		{acme.Problem{Type: problemPrefix + "unauthorized"}, time.Time{}},
		{errors.New("retry after 2026-11-30 04:05:06"), time.Time{}},
	} {
		if got := limitedUntil(c.err, now); !got.Equal(c.want) {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"no address":      {},
		"plain directory": {Email: "a@b.c", Directory: "http://x/dir"},
		"half a binding":  {Email: "a@b.c", BindingID: "x"},
		"no roots":        {Email: "a@b.c", Roots: []byte("x")},
	} {
		if err := c.Validate(); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"/no/such/program", "/etc", "/etc/passwd", "rfc2136://", "rfc2136://key@server?secret=/no/such/file"} {
		if _, err := ParseDNS(text); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
	d, err := ParseDNS("rfc2136://[::1]:5353/example.com")
	if u, ok := d.(Update); err != nil || !ok || u.Server != "[::1]:5353" || u.Zone != "example.com." {
		t.Error(d, err)
	}
	if d, err = ParseDNS("rfc2136://ns.example.com"); err != nil || d.(Update).Server != "ns.example.com:53" || d.(Update).Zone != "" { //nolint:forcetypeassert // it is one
		t.Error(d, err)
	}
}
