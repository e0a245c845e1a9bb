package traffic_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// secureWorld is a world with a door by TLS.
type secureWorld struct {
	*world
	https string
	roots *x509.CertPool
}

// newSecureWorld has a certificate for the names, which strangers trust if public.
func newSecureWorld(t *testing.T, public bool, change func(*traffic.Config), names ...string) *secureWorld {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	w := &secureWorld{https: l.Addr().String(), roots: x509.NewCertPool()}
	w.world = newWorld(t, func(cfg *traffic.Config) {
		cfg.Listeners["https"] = l
		if change != nil {
			change(cfg)
		}
	})
	cert, leaf := certificateFor(t, names...)
	cert.Public = public
	w.roots.AddCert(leaf)
	if err := w.Update(maru.TrafficUpdate{Version: w.version.Add(1), Certificates: []maru.Certificate{cert}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// client asks the gateway for whatever host by TLS, and follows no redirect.
func (w *secureWorld) client(change func(*tls.Config), http2 bool) *http.Client {
	cfg := &tls.Config{RootCAs: w.roots}
	if change != nil {
		change(cfg)
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: http2, DialContext: w.dial(w.https)}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func ask(t *testing.T, c *http.Client, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(url, err)
	}
	_, body := text(t, res, nil)
	return res, body
}

// echoHeaders says what a service was told of its client.
func echoHeaders(names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, n := range names {
			fmt.Fprintf(w, "%s=%q\n", n, r.Header.Values(n))
		}
	})
}

func yes(b bool) *bool { return &b }

// TestRedirectToHTTPS sends people to HTTPS where strangers trust the certificate, or where the route says so.
func TestRedirectToHTTPS(t *testing.T) {
	for _, c := range []struct {
		name     string
		public   bool
		route    *maru.RouteTLS
		host     string
		proto    string // X-Forwarded-Proto of a proxy that is trusted
		location string // PORT stands for the gateway's; "": none
	}{
		{"local certificate", false, nil, "web.test", "", ""},
		{"public certificate", true, nil, "web.test", "", "https://web.test/a%20b?c=d"},
		{"with a port", true, nil, "web.test:8080", "", "https://web.test:PORT/a%20b?c=d"},
		{"said so", false, &maru.RouteTLS{Redirect: yes(true)}, "web.test", "", "https://web.test/a%20b?c=d"},
		{"said not so", true, &maru.RouteTLS{Redirect: yes(false)}, "web.test", "", ""},
		{"TLS ended before", true, nil, "web.test", "https", ""},
		{"no TLS before", true, nil, "web.test", "http", "https://web.test/a%20b?c=d"},
		{"other name", true, nil, "other.test", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newSecureWorld(t, c.public, func(cfg *traffic.Config) {
				if c.proto != "" {
					cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
			}, "web.test")
			s := web(startInstance(t, "a", say("a")))
			s.Routes = []maru.Route{{Host: "web.test", TLS: c.route}, {Host: "other.test", TLS: c.route}}
			w.set(s)
			r := w.request("GET", c.host, "/a%20b?c=d")
			if c.proto != "" {
				r.Header.Set("X-Forwarded-Proto", c.proto)
			}
			res, err := http.DefaultTransport.RoundTrip(r)
			text(t, res, err)
			_, port, _ := net.SplitHostPort(w.https)
			want := strings.ReplaceAll(c.location, "PORT", port)
			if got := res.Header.Get("Location"); got != want || (want != "") != (res.StatusCode == 308) {
				t.Errorf("%d %q, want %q", res.StatusCode, got, want)
			}
			if res, body := ask(t, w.client(nil, false), "https://web.test/", nil); res.StatusCode != 200 || body != "a" {
				t.Error(res.Status, body)
			}
		})
	}
}

// TestStrictTransportSecurity promises HTTPS by HTTPS only (RFC 6797, 7.2), unless the service does itself.
func TestStrictTransportSecurity(t *testing.T) {
	w := newSecureWorld(t, false, nil, "web.test")
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if own := r.URL.Query().Get("own"); own != "" {
			rw.Header().Set("Strict-Transport-Security", own)
		}
	})))
	s.Routes[0].TLS = &maru.RouteTLS{HSTS: "max-age=60; includeSubDomains"}
	w.set(s)
	for _, http2 := range []bool{false, true} {
		c := w.client(nil, http2)
		for path, want := range map[string]string{"/": "max-age=60; includeSubDomains", "/?own=max-age%3D0": "max-age=0"} {
			res, _ := ask(t, c, "https://web.test"+path, nil)
			if got := res.Header.Values("Strict-Transport-Security"); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q", path, got)
			}
		}
	}
	res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
	if text(t, res, err); res.Header.Get("Strict-Transport-Security") != "" {
		t.Error("promised in the clear")
	}
}

// TestTLSVersionsAndSuites takes what has forward secrecy and authenticated encryption, and nothing else.
func TestTLSVersionsAndSuites(t *testing.T) {
	w := newSecureWorld(t, false, nil, "web.test")
	dial := func(cfg *tls.Config) error {
		cfg.RootCAs, cfg.ServerName = w.roots, "web.test"
		c, err := tls.Dial("tcp", w.https, cfg)
		if err == nil {
			c.Close()
		}
		return err
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if dial(&tls.Config{MinVersion: version, MaxVersion: version}) == nil {
			t.Errorf("%s is taken", tls.VersionName(version))
		}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if err := dial(&tls.Config{MinVersion: version, MaxVersion: version}); err != nil {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.SupportedVersions[0] == tls.VersionTLS13 {
			continue
		}
		err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{s.ID}})
		wanted := strings.Contains(s.Name, "ECDHE") && (strings.Contains(s.Name, "GCM") || strings.Contains(s.Name, "POLY1305"))
		if err == nil && !wanted || err != nil && wanted && strings.Contains(s.Name, "ECDSA") {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	if err := dial(&tls.Config{NextProtos: []string{"spdy/3"}}); err == nil {
		t.Error("a protocol that is not spoken was agreed on")
	}
}

// shelf keeps files over the ends of proxies, as a supervisor does.
type shelf struct {
	mu    sync.Mutex
	files map[string]*os.File
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{files: map[string]*os.File{}}
	t.Cleanup(func() {
		for _, f := range s.files {
			f.Close()
		}
	})
	return s
}

func (s *shelf) keep(name string, f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied, err := duplicate(f)
	if err != nil {
		return err
	}
	if old := s.files[name]; old != nil {
		old.Close()
	}
	s.files[name] = copied
	return nil
}

func (s *shelf) kept(name string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[name]; f != nil {
		return duplicate(f)
	}
	return nil, nil
}

func (s *shelf) use(cfg *traffic.Config) { cfg.Keep, cfg.Kept = s.keep, s.kept }

// TestSessionsOutliveTheProxy resumes a session with the proxy that follows the one that began it.
func TestSessionsOutliveTheProxy(t *testing.T) {
	files := newShelf(t)
	cache := tls.NewLRUClientSessionCache(10)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		resumed := []bool{}
		for range 3 {
			w := newSecureWorld(t, false, files.use, "web.test")
			w.set(web(startInstance(t, "a", say("a"))))
			// The certificate is another one each time, and not what is looked at here.
			c := w.client(func(cfg *tls.Config) {
				cfg.ClientSessionCache, cfg.MinVersion, cfg.MaxVersion, cfg.InsecureSkipVerify = cache, version, version, true
			}, false)
			res, _ := ask(t, c, "https://web.test/", nil)
			resumed = append(resumed, res.TLS.DidResume)
			w.stop()
		}
		if fmt.Sprint(resumed) != "[false true true]" {
			t.Errorf("%s: resumed %v", tls.VersionName(version), resumed)
		}
		cache = tls.NewLRUClientSessionCache(10)
	}
}

// pki is an authority with certificates of clients.
type pki struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPKI(t *testing.T, name string) *pki {
	p := &pki{t: t}
	p.cert, p.key = p.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return p
}

func (p *pki) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := p.cert, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert, key
}

func (p *pki) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

// client gives a certificate that the authority vouches for.
func (p *pki) client(name string, change func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: []string{"Partners"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	cert, key := p.sign(template)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func shows(cert tls.Certificate) func(*tls.Config) {
	return func(cfg *tls.Config) {
		// Also where the server named other authorities.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
}

const clientHeaders = "Client-Cert Client-Cert-Chain X-Maru-Client-Subject"

// mutualWorld has one host whose clients need certificates, one where they may have some, and an open one.
func mutualWorld(t *testing.T, ours *pki) *secureWorld {
	w := newSecureWorld(t, false, nil, "mutual.test", "maybe.test", "open.test")
	s := web(startInstance(t, "a", echoHeaders(strings.Fields(clientHeaders)...)))
	s.Routes = []maru.Route{
		{Host: "mutual.test", TLS: &maru.RouteTLS{ClientCA: ours.pem()}},
		{Host: "maybe.test", TLS: &maru.RouteTLS{ClientCA: ours.pem(), ClientOptional: true}},
		{Host: "open.test"},
	}
	w.set(s)
	return w
}

// TestClientCertificates lets in who has a certificate of the right authority, and tells the service who it is.
func TestClientCertificates(t *testing.T) {
	ours, others := newPKI(t, "ours"), newPKI(t, "others")
	good := ours.client("alice", nil)
	told := fmt.Sprintf("Client-Cert=[%q]\nClient-Cert-Chain=[]\nX-Maru-Client-Subject=[%q]\n",
		":"+base64.StdEncoding.EncodeToString(good.Leaf.Raw)+":", "CN=alice,O=Partners")
	const nothing = "Client-Cert=[]\nClient-Cert-Chain=[]\nX-Maru-Client-Subject=[]\n"
	w := mutualWorld(t, ours)
	lies := func(r *http.Request) {
		for _, name := range []string{"Client-Cert", "client-cert", "Client_Cert", "Client-Cert-Chain", "X-Maru-Client-Subject", "X_Maru-Client_Subject"} {
			r.Header[name] = []string{"mallory"}
		}
	}
	for _, http2 := range []bool{false, true} {
		for _, c := range []struct {
			host   string
			shows  func(*tls.Config)
			status int
			body   string
		}{
			{"mutual.test", shows(good), 200, told},
			{"mutual.test", nil, 403, ""},
			{"maybe.test", shows(good), 200, told},
			{"maybe.test", nil, 200, nothing},
			{"open.test", nil, 200, nothing},
			{"open.test", shows(good), 200, nothing},
		} {
			res, body := ask(t, w.client(c.shows, http2), "https://"+c.host+"/", lies)
			if res.StatusCode != c.status || c.status == 200 && body != c.body {
				t.Errorf("%s with certificate %v: %s %s", c.host, c.shows != nil, res.Status, body)
			}
		}
	}
	for name, cert := range map[string]tls.Certificate{
		"another authority's": others.client("alice", nil),
		"expired":             ours.client("alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"a server's": ours.client("alice", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}),
	} {
		for _, host := range []string{"mutual.test", "maybe.test"} {
			if res, err := w.client(shows(cert), false).Get("https://" + host + "/"); err == nil {
				res.Body.Close()
				t.Errorf("%s certificate is taken for %s: %s", name, host, res.Status)
			}
		}
	}
	res, err := http.DefaultClient.Do(w.request("GET", "mutual.test", "/"))
	if text(t, res, err); res.StatusCode != 403 {
		t.Error("in the clear:", res.Status)
	}
}

// TestClientCertificatesCantBePassedBy asks for the host by connections that were begun for another one, by
// sessions of others, and after the authority has changed.
func TestClientCertificatesCantBePassedBy(t *testing.T) {
	ours, others := newPKI(t, "ours"), newPKI(t, "others")
	w := mutualWorld(t, ours)
	for _, http2 := range []bool{false, true} {
		c := w.client(func(cfg *tls.Config) { cfg.ServerName = "open.test" }, http2)
		if res, _ := ask(t, c, "https://mutual.test/", nil); res.StatusCode != 421 {
			t.Error("by another host's connection:", res.Status)
		}
	}
	cache := tls.NewLRUClientSessionCache(10)
	resume := func(host string, cert *tls.Certificate) (resumed bool, err error) {
		cfg := &tls.Config{RootCAs: w.roots, ServerName: host, ClientSessionCache: oneSession{cache}, NextProtos: []string{"http/1.1"}}
		if cert != nil {
			shows(*cert)(cfg)
		}
		conn, err := tls.Dial("tcp", w.https, cfg)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		answer, err := io.ReadAll(conn)
		if err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			err = errors.New(string(answer))
		}
		return conn.ConnectionState().DidResume, err
	}
	alice := ours.client("alice", nil)
	if resumed, err := resume("mutual.test", &alice); resumed || err != nil {
		t.Fatal(resumed, err)
	}
	if resumed, err := resume("mutual.test", nil); !resumed || err != nil {
		t.Error("an own session is not resumed:", resumed, err)
	}
	if resumed, err := resume("open.test", nil); resumed || err != nil {
		t.Error("a session with a client's certificate is resumed without:", resumed, err)
	}
	if resumed, err := resume("mutual.test", nil); resumed || err == nil {
		t.Error("a session without a client's certificate is resumed:", resumed, err)
	}
	cache = tls.NewLRUClientSessionCache(10)
	if _, err := resume("mutual.test", &alice); err != nil {
		t.Fatal(err)
	}
	s := web(startInstance(t, "a2", say("a")))
	s.Routes = []maru.Route{{Host: "mutual.test", TLS: &maru.RouteTLS{ClientCA: others.pem()}}}
	w.set(s)
	if resumed, err := resume("mutual.test", nil); resumed || err == nil {
		t.Error("a session is resumed after the authority has changed:", resumed, err)
	}
}

// oneSession has one session for all names.
type oneSession struct{ tls.ClientSessionCache }

func (o oneSession) Get(string) (*tls.ClientSessionState, bool)  { return o.ClientSessionCache.Get("") }
func (o oneSession) Put(_ string, state *tls.ClientSessionState) { o.ClientSessionCache.Put("", state) }
