package traffic_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// TestQuotas: each key has its share of the day, which a restart does not give again.
func TestQuotas(t *testing.T) {
	credential := func(user, key string) maru.Credential {
		sum := sha256.Sum256([]byte(key))
		return maru.Credential{User: user, Hash: hex.EncodeToString(sum[:])}
	}
	auth := &maru.Auth{Kind: maru.KeyAuth, Credentials: []maru.Credential{credential("ada", "one"), credential("ada", "two"), credential("bob", "three")}}
	s := web(startInstance(t, "a", say("a")))
	route := func(host string, quotas ...maru.Quota) maru.Route {
		return maru.Route{Host: host, Policy: &maru.RoutePolicy{Auth: auth, Quotas: quotas}}
	}
	s.Routes = []maru.Route{
		route("user.test", maru.Quota{Requests: 3, Per: maru.MonthQuota}),
		route("token.test", maru.Quota{Requests: 2, Per: maru.MonthQuota, By: "token"}, maru.Quota{Requests: 5, Per: maru.HourQuota}),
		{Host: "nobody.test", Policy: &maru.RoutePolicy{Quotas: []maru.Quota{{Requests: 5, Per: maru.DayQuota}}}},
	}
	folder := t.TempDir()
	start := func() *world {
		w := newWorld(t, func(cfg *traffic.Config) { cfg.State = folder })
		w.set(s)
		return w
	}
	w := start()
	check := func(host, key string, want int, left string) {
		t.Helper()
		res, body := w.spell("GET", host, "/", "X-Api-Key: "+key)
		if res.StatusCode != want || left != "" && !strings.Contains(strings.Join(res.Header["Ratelimit"], ", "), left) {
			t.Errorf("%s at %s: %s %v %s", key, host, res.Status, res.Header["Ratelimit"], body)
		}
		if want == 429 && (res.Header.Get("Retry-After") == "" || !strings.Contains(res.Header.Get("RateLimit-Policy"), `"quota-month";q=`)) {
			t.Error(res.Header)
		}
	}
	check("user.test", "one", 200, `"quota-month";r=2;t=`)
	check("user.test", "two", 200, `"quota-month";r=1;t=`)
	check("user.test", "three", 200, `"quota-month";r=2;t=`)
	check("token.test", "one", 200, `"quota-month";r=1;t=`)
	check("token.test", "two", 200, `"quota-month";r=1;t=`)
	check("nobody.test", "one", 403, "")
	check("user.test", "wrong", 401, "")
	w.stop()
	w = start()
	check("user.test", "one", 200, `"quota-month";r=0;t=`)
	check("user.test", "two", 429, `"quota-month";r=0;t=`)
	check("user.test", "three", 200, `"quota-month";r=1;t=`)
	check("token.test", "one", 200, `"quota-month";r=0;t=`)
	check("token.test", "one", 429, `"quota-month";r=0;t=`)
	s.Routes[0] = route("user.test", maru.Quota{Requests: 10, Per: maru.MonthQuota})
	w.set(s)
	check("user.test", "two", 200, `"quota-month";r=6;t=`)
}
