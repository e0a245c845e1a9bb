package traffic_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// identities is a login provider where nobody is asked for a password, and whose mistakes a test chooses.
type identities struct {
	*httptest.Server
	t      *testing.T
	signer jose.Signer

	mu        sync.Mutex
	claims    map[string]any // of who logs in
	info      map[string]any // of the UserInfo endpoint
	codes     map[string]url.Values
	refresh   string // the token that is taken
	expires   int
	locked    bool // refresh tokens are not taken
	down      bool
	refreshed int
	change    func(id map[string]any) // of the ID token
}

func startIdentities(t *testing.T) *identities {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &identities{t: t, info: map[string]any{"sub": "1"}, claims: map[string]any{"sub": "1", "email": "ada@example.com", "email_verified": true}, codes: map[string]url.Values{}, expires: 3600}
	if p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: private}, (&jose.SignerOptions{}).WithHeader("kid", "1")); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	answer := func(rw http.ResponseWriter, v any) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"userinfo_endpoint": p.URL + "/info", "end_session_endpoint": p.URL + "/end?own=1", "id_token_signing_alg_values_supported": []string{"EdDSA"},
		})
	})
	mux.HandleFunc("/keys", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "1", Algorithm: "EdDSA"}}})
	})
	mux.HandleFunc("/authorize", func(rw http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		q := r.URL.Query()
		code := fmt.Sprint("code", len(p.codes))
		p.codes[code] = q
		http.Redirect(rw, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/info", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			t.Error("the UserInfo endpoint is asked without the token")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(rw, p.info)
	})
	return p
}

func (p *identities) token(rw http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refuse := func(status int, why string) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		fmt.Fprintf(rw, `{"error": %q}`, why)
	}
	id, secret, _ := r.BasicAuth()
	secret, _ = url.QueryUnescape(secret) // RFC 6749, 2.3.1
	if p.down {
		refuse(503, "down")
		return
	}
	if id != "shop" || secret != "client secret" {
		refuse(401, "invalid_client")
		return
	}
	claims := map[string]any{"iss": p.URL, "aud": "shop", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix()}
	for k, v := range p.claims {
		claims[k] = v
	}
	if r.FormValue("grant_type") == "refresh_token" {
		if p.refreshed++; p.locked || r.FormValue("refresh_token") != p.refresh {
			refuse(400, "invalid_grant")
			return
		}
	} else {
		begun, ok := p.codes[r.FormValue("code")]
		delete(p.codes, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || begun.Get("code_challenge_method") != "S256" || begun.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			begun.Get("redirect_uri") != r.FormValue("redirect_uri") || begun.Get("client_id") != "shop" {
			refuse(400, "invalid_grant")
			return
		}
		claims["nonce"] = begun.Get("nonce")
	}
	if p.change != nil {
		p.change(claims)
	}
	raw, err := jwt.Signed(p.signer).Claims(claims).Serialize()
	if err != nil {
		p.t.Error(err)
	}
	answer := map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": p.expires, "id_token": raw}
	if p.refresh != "" {
		p.refresh += "+"
		answer["refresh_token"] = p.refresh
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(answer)
}

func (p *identities) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// guardedByLogin is a service that says who it is told its visitor is, and all cookies that it gets.
func guardedByLogin(t *testing.T, p *identities, logins ...maru.Login) maru.ServiceTraffic {
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%q %q %q %q %s", r.Header["X-Maru-User"], r.Header["X-Maru-Email"], r.Header["X-Maru-Groups"], r.Header["Cookie"], r.URL)
	})))
	s.Secrets, s.Routes = map[string]string{"login": "client secret"}, nil
	for i, l := range logins {
		l.Client = "shop"
		s.Routes = append(s.Routes, maru.Route{Host: "web.test", Path: []string{"", "/admin", "/sales", "/ops"}[i], Policy: &maru.RoutePolicy{
			Auth: &maru.Auth{Kind: maru.LoginAuth, Issuer: p.URL, Secret: "login", Login: &l},
		}})
	}
	s.Routes = append(s.Routes, maru.Route{Host: "web.test", Path: "/open"})
	return s
}

// browser is a client that keeps cookies and follows redirects, to the gateway for web.test.
func (w *secureWorld) browser() *http.Client {
	c := w.client(nil, false)
	c.Jar, _ = cookiejar.New(nil)
	c.CheckRedirect = nil
	under := c.Transport
	c.Transport = elsewhere{under}
	return c
}

// elsewhere leads only web.test to the gateway.
type elsewhere struct{ gateway http.RoundTripper }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() != "web.test" {
		return http.DefaultTransport.RoundTrip(r)
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "text/html")
	}
	return e.gateway.RoundTrip(r)
}

func visit(t *testing.T, c *http.Client, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", "https://web.test"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, body := text(t, res, nil)
	return res, body
}

// TestLogin: a browser is sent to the provider and comes back to where it wanted to go; the service learns who
// it is, and nobody else may say so.
func TestLogin(t *testing.T) {
	p := startIdentities(t)
	w := newSecureWorld(t, false, nil, "web.test")
	w.set(guardedByLogin(t, p, maru.Login{}, maru.Login{Groups: []string{"operators"}}, maru.Login{Emails: []string{"*@Example.com"}},
		maru.Login{Claims: map[string][]string{"realm.roles": {"a", "b"}}}))
	c := w.browser()
	res, body := visit(t, c, "/x?y=%20z", "X-Maru-User", "root", "X-Maru-Groups", "operators", "Cookie", "own=1")
	if want := `["1"] ["ada@example.com"] [] [] /x?y=%20z`; res.StatusCode != 200 || body != want {
		t.Fatalf("%s %s", res.Status, body)
	}
	// Cookies that are not the gateway's reach the service, those that are don't, whatever the route.
	for path, want := range map[string]string{"/x": `["1"] ["ada@example.com"] [] ["own=1"] /x`, "/open": `[] [] [] ["own=1"] /open`} {
		if _, body := visit(t, c, path, "Cookie", "own=1", "X-Maru-User", "root"); body != want {
			t.Errorf("%s", body)
		}
	}
	for _, cookie := range c.Jar.Cookies(&url.URL{Scheme: "https", Host: "web.test", Path: "/"}) {
		if !strings.HasPrefix(cookie.Name, "__Host-maru-login-session-") {
			t.Error("a cookie is left:", cookie.Name)
		}
	}
	// Others of the same login.
	for path, status := range map[string]int{"/admin/x": 403, "/sales": 200} {
		if res, body := visit(t, c, path); res.StatusCode != status {
			t.Errorf("%s: %s %s", path, res.Status, body)
		}
	}
	if res, _ := visit(t, c, "/ops"); res.StatusCode != 403 {
		t.Error("who lacks the claim is let in", res.Status)
	}
	p.set(func() { p.claims["realm"] = map[string]any{"roles": []string{"b", "c"}} })
	if res, _ := visit(t, w.browser(), "/ops"); res.StatusCode != 200 {
		t.Error("who has the claim is not let in", res.Status)
	}
	// Nobody is sent anywhere who is not on a page.
	for _, header := range [][]string{{"Accept", "application/json"}, {"Sec-Fetch-Mode", "cors"}, {"Accept", "*/*"}} {
		if res, _ := visit(t, w.browser(), "/x", header...); res.StatusCode != 401 || res.Header.Get("Set-Cookie") != "" {
			t.Error(header, res.Status, res.Header)
		}
	}
	// Another site can't log anybody out; oneself can.
	if res, _ := visit(t, c, "/.auth/logout", "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 {
		t.Error(res.Status)
	}
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	if res, _ := visit(t, c, "/.auth/logout"); res.StatusCode != 303 || res.Header.Get("Location") != p.URL+"/end?client_id=shop&own=1" {
		t.Error(res.Status, res.Header)
	}
	if res, _ := visit(t, c, "/x"); res.StatusCode != 303 || !strings.HasPrefix(res.Header.Get("Location"), p.URL+"/authorize?") {
		t.Error("after the logout:", res.Status)
	}
}

// TestLoginIsNotForged: what does not fit together is not let in.
func TestLoginIsNotForged(t *testing.T) {
	p := startIdentities(t)
	w := newSecureWorld(t, false, nil, "web.test")
	s := guardedByLogin(t, p, maru.Login{Emails: []string{"ada@example.com"}})
	w.set(s)
	for name, c := range map[string]struct {
		change func(id map[string]any)
		status int
	}{
		"as it is":            {func(map[string]any) {}, 200},
		"other nonce":         {func(id map[string]any) { id["nonce"] = "another" }, 400},
		"no nonce":            {func(id map[string]any) { delete(id, "nonce") }, 400},
		"other audience":      {func(id map[string]any) { id["aud"] = "other" }, 400},
		"for several":         {func(id map[string]any) { id["aud"] = []string{"shop", "other"} }, 400},
		"for several, by us":  {func(id map[string]any) { id["aud"], id["azp"] = []string{"shop", "other"}, "shop" }, 200},
		"by another client":   {func(id map[string]any) { id["azp"] = "other" }, 400},
		"other issuer":        {func(id map[string]any) { id["iss"] = "https://evil.test" }, 400},
		"too old":             {func(id map[string]any) { id["exp"] = time.Now().Add(-time.Hour).Unix() }, 400},
		"nobody":              {func(id map[string]any) { delete(id, "sub") }, 400},
		"line end in a name":  {func(id map[string]any) { id["sub"] = "a\r\nX-Maru-User: root" }, 400},
		"unverified address":  {func(id map[string]any) { id["email_verified"] = false }, 403},
		"unsaid verification": {func(id map[string]any) { delete(id, "email_verified") }, 403},
		"another address":     {func(id map[string]any) { id["email"] = "eve@example.com" }, 403},
	} {
		p.set(func() {
			p.change = c.change
			p.info = map[string]any{"sub": "2", "email": "ada@example.com", "email_verified": true}
		})
		if res, body := visit(t, w.browser(), "/"); res.StatusCode != c.status {
			t.Errorf("%s: %s %s", name, res.Status, body)
		}
	}
	p.set(func() { p.change = nil })
	// Begun by somebody else: a victim's browser takes no code that an attacker got.
	attacker := w.browser()
	var back *url.URL
	attacker.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/callback") {
			back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	visit(t, attacker, "/")
	if res, _ := visit(t, w.browser(), back.RequestURI()); res.StatusCode != 400 {
		t.Error("another's login is taken:", res.Status)
	}
	attacker.CheckRedirect = nil
	if res, body := visit(t, attacker, back.RequestURI()); res.StatusCode != 200 {
		t.Error(res.Status, body)
	}
	if res, _ := visit(t, w.browser(), back.RequestURI()); res.StatusCode != 400 {
		t.Error("a code is taken twice:", res.Status)
	}
	// Changed cookies, and those of another host, are none.
	var held *http.Cookie
	for _, cookie := range attacker.Jar.Cookies(back) {
		if strings.Contains(cookie.Name, "session") {
			held = cookie
		}
	}
	for i := range held.Value {
		if i%7 != 0 {
			continue
		}
		changed := []byte(held.Value)
		if changed[i]++; changed[i] == ';' || changed[i] == held.Value[i] {
			continue
		}
		if res, _ := visit(t, w.client(nil, false), "/", "Accept", "*/*", "Cookie", held.Name+"="+string(changed)); res.StatusCode != 401 && i < len(held.Value)-1 {
			t.Fatalf("with a change at %d of %d: %s", i, len(held.Value), res.Status)
		}
	}
	if res, _ := visit(t, w.client(nil, false), "/", "Accept", "*/*", "Cookie", held.Name+"="+held.Value); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	s.Routes[0].Host = "*.test"
	w.set(s)
	if res, _ := visit(t, w.client(nil, false), "/", "Accept", "*/*", "Cookie", held.Name+"="+held.Value); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	r := w.request("GET", "other.test", "/")
	r.Header.Set("Cookie", strings.TrimPrefix(held.Name, "__Host-")+"="+held.Value)
	if res, err := http.DefaultTransport.RoundTrip(r); err != nil || res.StatusCode != 401 {
		t.Error("another host's session is taken", err, res.Status)
	}
}

// TestLoginFailures: a provider that says no, or nothing.
func TestLoginFailures(t *testing.T) {
	p := startIdentities(t)
	w := newSecureWorld(t, false, nil, "web.test")
	s := guardedByLogin(t, p, maru.Login{})
	w.set(s)
	for _, path := range []string{"/.auth/callback", "/.auth/callback?state=", "/.auth/callback?state=x&code=y", "/.auth/callback?%zz", "/.auth/callback?error=access_denied&state=%0d%0a"} {
		if res, _ := visit(t, w.browser(), path); res.StatusCode != 400 {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	p.set(func() { p.down = true })
	if res, _ := visit(t, w.browser(), "/"); res.StatusCode != 400 {
		t.Error(res.Status)
	}
	p.set(func() { p.down = false })
	s.Secrets = nil // a proxy that started without a server, and was handed nothing
	w.set(s)
	if res, _ := visit(t, w.browser(), "/"); res.StatusCode != 503 {
		t.Error(res.Status)
	}
	s.Secrets = map[string]string{"login": "client secret"}
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("group-%08d", i)
	}
	w.set(s)
	p.set(func() { p.claims["groups"] = many })
	if res, body := visit(t, w.browser(), "/"); res.StatusCode != 400 || !strings.Contains(body, "more of you than a browser can keep") {
		t.Error(res.Status, body)
	}
	p.set(func() { p.claims["groups"] = many[:600] })
	c := w.browser()
	if res, body := visit(t, c, "/"); res.StatusCode != 200 || !strings.Contains(body, "group-00000599") || len(c.Jar.Cookies(res.Request.URL)) < 3 {
		t.Error(res.Status, len(body))
	}
	nobody := *s.Routes[0].Policy.Auth
	nobody.Issuer = "http://127.0.0.1:1"
	s.Routes[0].Policy = &maru.RoutePolicy{Auth: &nobody}
	w.set(s)
	if res, _ := visit(t, w.browser(), "/"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Error(res.Status, res.Header)
	}
}

// TestLoginIsRefreshed: the provider's word is asked for again when it is old, once for all requests that come
// meanwhile, and who is locked out there is locked out here.
func TestLoginIsRefreshed(t *testing.T) {
	p := startIdentities(t)
	p.expires, p.refresh = 1, "refresh"
	w := newSecureWorld(t, false, nil, "web.test")
	w.set(guardedByLogin(t, p, maru.Login{}))
	c := w.browser()
	if res, body := visit(t, c, "/"); res.StatusCode != 200 {
		t.Fatal(res.Status, body)
	}
	p.set(func() { p.claims["groups"] = []string{"new"} })
	eventually(t, "refreshed", func() bool { _, body := visit(t, c, "/"); return strings.Contains(body, `["new"]`) })
	at := &url.URL{Scheme: "https", Host: "web.test", Path: "/"}
	old := c.Jar.Cookies(at)
	p.set(func() { p.refreshed, p.expires = 0, 3600 })
	eventually(t, "due again", func() bool { visit(t, c, "/"); p.mu.Lock(); defer p.mu.Unlock(); return p.refreshed > 0 })
	// The session of before is good for a moment, for what the browser sent meanwhile.
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if res, _ := visit(t, w.client(nil, false), "/", "Accept", "*/*", "Cookie", old[0].Name+"="+old[0].Value); res.StatusCode != 200 {
				t.Error(res.Status)
			}
		})
	}
	all.Wait()
	p.set(func() {
		if p.refreshed != 1 {
			t.Errorf("refreshed %d times", p.refreshed)
		}
		p.expires = 1
	})
	c = w.browser()
	visit(t, c, "/")
	p.set(func() { p.down, p.refreshed = true, 0 })
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		if res, _ := visit(t, c, "/", "Accept", "*/*"); res.StatusCode != 200 {
			t.Fatal("while the provider is down:", res.Status)
		}
	}
	c = nil
	p.set(func() { p.down, p.locked = false, false })
	c = w.browser()
	visit(t, c, "/")
	p.set(func() { p.locked = true })
	eventually(t, "locked out", func() bool { res, _ := visit(t, c, "/", "Accept", "*/*"); return res.StatusCode == 401 })
}

// TestLoginOutlivesTheProxy: who is logged in is so with the next proxy, which starts without a server, and
// neither keys nor secrets are on the disk.
func TestLoginOutlivesTheProxy(t *testing.T) {
	p := startIdentities(t)
	kept := newShelf(t)
	folder := t.TempDir()
	socket := folder + "/traffic.sock"
	server := startControl(t, socket)
	server.Set(guardedByLogin(t, p, maru.Login{}))
	cert, leaf := certificateFor(t, "web.test")
	server.SetCertificates([]maru.Certificate{cert})
	server.Sync()
	change := func(cfg *traffic.Config) {
		cfg.Server, cfg.State = socket, folder+"/state"
		kept.use(cfg)
	}
	start := func() *secureWorld {
		w := &secureWorld{roots: x509.NewCertPool()}
		w.roots.AddCert(leaf)
		w.world = newWorld(t, func(cfg *traffic.Config) {
			change(cfg)
			l := listen(t, "127.0.0.1:0")
			cfg.Listeners["https"], w.https = l, l.Addr().String()
		})
		return w
	}
	w := start()
	eventually(t, "told", func() bool { return w.status("web.test") != 404 })
	c := w.browser()
	if res, body := visit(t, c, "/"); res.StatusCode != 200 {
		t.Fatal(res.Status, body)
	}
	eventually(t, "kept", func() bool { f, _ := kept.kept("secrets"); return f != nil })
	w.stop()
	server.stop()
	err := filepath.WalkDir(folder+"/state", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "client secret") {
			t.Error("the secret is in", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	next := start()
	again := next.browser()
	again.Jar = c.Jar
	if res, body := visit(t, again, "/", "Accept", "*/*"); res.StatusCode != 200 {
		t.Error("with the next proxy:", res.Status, body)
	}
	if res, body := visit(t, next.browser(), "/"); res.StatusCode != 200 {
		t.Error("nobody can log in any more:", res.Status, body)
	}
}
