package traffic_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/marucloud/maru"
)

// whoami is a service that says who the gateway says it is, and what it was given to know it by.
func whoami(t *testing.T, routes ...maru.Route) maru.ServiceTraffic {
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%q %q %q", r.Header["X-Maru-User"], r.Header["Authorization"], r.Header["X-Api-Key"])
	})))
	s.Routes = routes
	return s
}

func TestBasicAuth(t *testing.T) {
	w := newWorld(t, nil)
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame: open"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	auth := &maru.Auth{Kind: maru.BasicAuth, Realm: "Shop", Credentials: []maru.Credential{{User: "ada", Hash: string(hash)}}}
	s := whoami(t,
		guarded(maru.RoutePolicy{Auth: auth, CORS: &maru.CORS{Origins: []string{"https://one.test"}}}),
		maru.Route{Host: "open.test"},
		maru.Route{Host: "none.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.BasicAuth, Secret: "gone"}}},
	)
	w.set(s)
	for _, c := range []struct {
		host, user, password string
		status               int
	}{
		{"a.test", "ada", "sesame: open", 200},
		{"a.test", "ada", "sesame: open", 200}, // known again
		{"a.test", "ada", "sesame", 401},
		{"a.test", "ada", "", 401},
		{"a.test", "bob", "sesame: open", 401},
		{"a.test", "", "", 401},
		{"none.test", "ada", "sesame: open", 401},
	} {
		r := w.request("GET", c.host, "/")
		r.SetBasicAuth(c.user, c.password)
		r.Header.Set("X-Maru-User", "root")
		res, err := http.DefaultClient.Do(r)
		status, body := text(t, res, err)
		if status != c.status || status == 200 && body != `["ada"] [] []` {
			t.Errorf("%s %q at %s: %d %s", c.user, c.password, c.host, status, body)
		}
		if status == 401 && !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), `Basic realm="`) {
			t.Errorf("%v", res.Header)
		}
	}
	for _, header := range []string{"X-Other: 1", "Authorization: Basic ???", "Authorization: Bearer abc", "Authorization: Basic YWRh", "authorization: basic"} {
		if res, _ := w.spell("GET", "a.test", "/", header); res.StatusCode != 401 {
			t.Errorf("%s: %d", header, res.StatusCode)
		}
	}
	// A preflight has no credentials, and the page learns of the 401.
	res, _ := w.spell("OPTIONS", "a.test", "/", "Origin: https://one.test", "Access-Control-Request-Method: GET")
	if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Error(res.Status, res.Header)
	}
	if res, _ := w.spell("GET", "a.test", "/", "Origin: https://one.test"); res.StatusCode != 401 || res.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Error(res.Status, res.Header)
	}
	// Where nobody is asked nobody is told, whatever a client writes.
	if _, body := w.spell("GET", "open.test", "/", "X-Maru-User: root", "x_maru_user: root", "Authorization: Bearer own"); body != `[] ["Bearer own"] []` {
		t.Errorf("%s", body)
	}
}

func TestKeyAuth(t *testing.T) {
	w := newWorld(t, nil)
	credential := func(user, key string) maru.Credential {
		sum := sha256.Sum256([]byte(key))
		return maru.Credential{User: user, Hash: hex.EncodeToString(sum[:])}
	}
	both := []maru.Credential{credential("ada", "key-of-ada-123456"), credential("ada", "other-of-ada-1234"), credential("bob", "key-of-bob-123456")}
	s := whoami(t,
		guarded(maru.RoutePolicy{
			Auth:   &maru.Auth{Kind: maru.KeyAuth, Credentials: both},
			Limits: []maru.RateLimit{{Requests: 2, Per: time.Hour, By: maru.LimitBy{What: "user"}}},
		}),
		maru.Route{Host: "own.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.KeyAuth, Header: "X-Shop-Key", Credentials: both}}},
		maru.Route{Host: "token.test", Policy: &maru.RoutePolicy{
			Auth:   &maru.Auth{Kind: maru.KeyAuth, Credentials: both},
			Limits: []maru.RateLimit{{Requests: 1, Per: time.Hour, By: maru.LimitBy{What: "token"}}},
		}},
	)
	w.set(s)
	for _, c := range []struct {
		host, header string
		status       int
		body         string
	}{
		{"a.test", "X-Api-Key: key-of-ada-123456", 200, `["ada"] [] []`},
		{"a.test", "Authorization: bearer other-of-ada-1234", 200, `["ada"] [] []`},
		{"a.test", "X-Api-Key: key-of-ada-123456", 429, ""}, // two of one user
		{"a.test", "X-Api-Key: key-of-bob-123456", 200, `["bob"] [] []`},
		{"a.test", "X-Api-Key: key-of-bob-12345", 401, ""},
		{"a.test", "X-Api-Key: ", 401, ""},
		{"a.test", "Authorization: Basic key-of-bob-123456", 401, ""},
		{"own.test", "X-Shop-Key: key-of-bob-123456", 200, `["bob"] [] []`},
		{"own.test", "X-Api-Key: key-of-bob-123456", 401, ""},
		{"token.test", "X-Api-Key: key-of-ada-123456", 200, `["ada"] [] []`},
		{"token.test", "X-Api-Key: other-of-ada-1234", 200, `["ada"] [] []`},
		{"token.test", "X-Api-Key: key-of-ada-123456", 429, ""},
	} {
		res, body := w.spell("GET", c.host, "/", c.header)
		if res.StatusCode != c.status || c.body != "" && body != c.body || (c.status == 401) != (res.Header.Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%s at %s: %d %s %v", c.header, c.host, res.StatusCode, body, res.Header)
		}
	}
}
