package traffic_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/marucloud/maru"
)

// issuer signs tokens, and tells its keys as OpenID Connect Discovery has it.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	asked int
	fails bool
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch {
		case i.fails:
			http.Error(rw, "no", http.StatusInternalServerError)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(rw, `{"issuer": %q, "jwks_uri": %q}`, i.URL, i.URL+"/keys")
		default:
			i.asked++
			_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: i.keys})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

// publish adds a key that the issuer tells of.
func (i *issuer) publish(id string, key crypto.Signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"})
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenAuth(t *testing.T) {
	w := newWorld(t, nil)
	i := newIssuer(t)
	one, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.publish("one", one)
	i.publish("two", two)
	w.set(whoami(t,
		guarded(maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.TokenAuth, Issuer: i.URL, Audiences: []string{"shop"}}}),
		maru.Route{Host: "mail.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.TokenAuth, Issuer: i.URL, Keys: i.URL + "/keys", Claim: "email"}}},
		maru.Route{Host: "lost.test", Policy: &maru.RoutePolicy{Auth: &maru.Auth{Kind: maru.TokenAuth, Issuer: i.URL + "/other"}}},
	))
	claims := func(change map[string]any) map[string]any {
		all := map[string]any{"iss": i.URL, "aud": []string{"shop"}, "sub": "ada", "email": "ada@example.com", "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(all, change)
		return all
	}
	public, err := (jose.JSONWebKey{Key: one.Public()}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	good := signed(t, jose.RS256, one, "one", claims(nil))
	unsigned := strings.Join([]string{"eyJhbGciOiJub25lIn0", strings.Split(good, ".")[1], ""}, ".")
	for name, c := range map[string]struct {
		host, token string
		want        string
	}{
		"good":             {"a.test", good, "ada"},
		"elliptic":         {"a.test", signed(t, jose.ES256, two, "two", claims(nil)), "ada"},
		"without key's id": {"a.test", signed(t, jose.ES256, two, "", claims(nil)), "ada"},
		"another claim":    {"mail.test", good, "ada@example.com"},
		"another key's id": {"a.test", signed(t, jose.RS256, one, "two", claims(nil)), ""},
		"over":             {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix()})), ""},
		"without end":      {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"exp": nil})), ""},
		"not yet":          {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()})), ""},
		"for another":      {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"aud": "bank"})), ""},
		"by another":       {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"iss": "https://evil.test"})), ""},
		"about nobody":     {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"sub": ""})), ""},
		"two lines":        {"a.test", signed(t, jose.RS256, one, "one", claims(map[string]any{"sub": "a\r\nX-Maru-User: root"})), ""},
		"by the public":    {"a.test", signed(t, jose.HS256, append(public, make([]byte, 32)...), "one", claims(nil)), ""},
		"unsigned":         {"a.test", unsigned, ""},
		"changed":          {"a.test", good[:len(good)-4] + "AAAA", ""},
		"nonsense":         {"a.test", "x.y.z", ""},
		"none":             {"a.test", "", ""},
	} {
		res, body := w.spell("GET", c.host, "/", "Authorization: Bearer "+c.token, "X-Maru-User: root")
		if c.want != "" && (res.StatusCode != 200 || !strings.HasPrefix(body, fmt.Sprintf("[%q]", c.want))) || c.want == "" && res.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
	}
	i.mu.Lock()
	if i.asked > 2 {
		t.Errorf("the keys were asked for %d times", i.asked)
	}
	i.fails = true
	i.mu.Unlock()
	if res, _ := w.spell("GET", "a.test", "/", "Authorization: Bearer "+good); res.StatusCode != 200 {
		t.Errorf("while the issuer is away: %d", res.StatusCode)
	}
	if res, _ := w.spell("GET", "lost.test", "/", "Authorization: Bearer "+good); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("without keys: %d", res.StatusCode)
	}
}
