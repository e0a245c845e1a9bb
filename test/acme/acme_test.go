package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/acme"
	"github.com/marucloud/maru/access/certificate"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/store/memory"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/stream"
)

func pool(pem []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(pem)
	return p
}

// world is a control plane's certificates with a proxy that follows it over the real stream.
type world struct {
	t         *testing.T
	names     *nameServer
	store     maru.Store
	box       *secrets.Box
	publisher *stream.Publisher
	http      net.Listener
	https     net.Listener
	state     string // the proxy's folder
	log       *slog.Logger

	mu     sync.Mutex
	wanted map[string]maru.Scope
}

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, names: startNames(t), store: memory.New(), wanted: map[string]maru.Scope{}, log: slog.New(slog.DiscardHandler),
		publisher: stream.NewPublisher(stream.PublisherConfig{}), http: listen(t, "tcp", "127.0.0.1:0"), https: listen(t, "tcp", "127.0.0.1:0"),
		state: t.TempDir(),
	}
	if testing.Verbose() {
		w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	var err error
	if w.box, err = secrets.OpenBox(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	w.publisher.Sync()
	return w
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// run runs something for as long as the test does.
func (w *world) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// startProxy has the proxy follow the publisher over a socket.
func (w *world) startProxy() {
	w.t.Helper()
	socket := filepath.Join(w.t.TempDir(), "s")
	l := listen(w.t, "unix", socket)
	w.run(func(ctx context.Context) error { return stream.NewServer(w.publisher, w.log).Run(ctx, l) })
	proxy, err := traffic.New(traffic.Config{
		Server: socket, State: w.state, Listeners: map[string]net.Listener{"http": w.http, "https": w.https},
		Settle: time.Millisecond, Linger: time.Millisecond, Drain: time.Second,
	}, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(proxy.Run)
	w.eventually("a proxy follows", func() bool { _, planes := w.publisher.Acked(); return planes > 0 })
}

// manage runs a manager, whose certificates the publisher is told as the server does.
func (w *world) manage(cfg acme.Config) *acme.Manager {
	w.t.Helper()
	cfg.Email = "admin@example.com"
	cfg.Hosts = func(context.Context) (map[string]maru.Scope, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		all := map[string]maru.Scope{}
		for k, v := range w.wanted {
			all[k] = v
		}
		return all, nil
	}
	m, err := acme.New(cfg, w.store, w.box, w.publisher, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(m.Run)
	w.run(w.publish)
	return m
}

func (w *world) publish(ctx context.Context) error {
	vault := certificate.New(w.store, w.box)
	for event, err := range w.store.Watch(ctx, 0) {
		if err != nil || !certificate.Is(event.Key) {
			continue
		}
		kept, err := vault.All(ctx)
		if err != nil {
			return err
		}
		var all []maru.Certificate
		for _, one := range kept {
			all = append(all, one.Certificate)
		}
		w.publisher.SetCertificates(all)
	}
	return nil
}

func (w *world) want(m *acme.Manager, hosts ...string) {
	w.mu.Lock()
	w.wanted = map[string]maru.Scope{}
	for _, h := range hosts {
		w.wanted[h] = shop
	}
	w.mu.Unlock()
	m.Wake()
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not so after a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shown gives the certificate that the gateway shows for a host, if clients of the authority trust it.
func (w *world) shown(a *authority, host string) *x509.Certificate {
	cfg := a.root()
	cfg.ServerName = host
	conn, err := tls.Dial("tcp", w.https.Addr().String(), cfg)
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func (w *world) events(kind string) (messages []string) {
	objects, _, err := w.store.List(w.t.Context(), "event", "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		if strings.Contains(string(o.Data), `"type":"`+kind+`"`) {
			messages = append(messages, string(o.Data))
		}
	}
	return messages
}

func info(t *testing.T, m *acme.Manager, host string) maru.CertificateInfo {
	t.Helper()
	all, err := m.Certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if one.Name == host {
			return one
		}
	}
	return maru.CertificateInfo{}
}

// TestByHTTPAndTLS gets certificates by each of the two challenges that the gateway answers, and leaves no key
// of them, nor of the account, where others could read it.
func TestByHTTPAndTLS(t *testing.T) {
	for name, ports := range map[string]func(w *world) (int, int){
		"http-01":     func(w *world) (int, int) { return portOf(w.http), 1 },
		"tls-alpn-01": func(w *world) (int, int) { return 1, portOf(w.https) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.startProxy()
			httpPort, tlsPort := ports(w)
			a := startAuthority(t, httpPort, tlsPort, w.names, 0, false)
			m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots})
			w.want(m, "shop.example.com", "api.example.com", "shop.localhost", "10.0.0.1", "box.internal")
			for _, host := range []string{"shop.example.com", "api.example.com"} {
				w.eventually(host+" has a certificate", func() bool { return w.shown(a, host) != nil })
			}
			if w.shown(a, "shop.localhost") != nil || info(t, m, "shop.localhost").Name != "" {
				t.Error("a local name was asked for")
			}
			if got := info(t, m, "shop.example.com"); got.State != maru.CertificateValid || time.Until(got.Renewal) < 50*24*time.Hour {
				t.Errorf("%+v", got)
			}
			if got := w.events("certificate-issued"); len(got) != 2 || !strings.Contains(got[0], "shop") {
				t.Error(got)
			}
			w.nothingLeft()
		})
	}
}

// nothingLeft looks for keys where none may be, and for challenges that are answered still.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, kind := range []string{"acme-account", "certificate"} {
		objects, _, err := w.store.List(w.t.Context(), kind, "")
		if err != nil || len(objects) == 0 {
			w.t.Fatal(kind, objects, err)
		}
		for _, o := range objects {
			for _, text := range []string{"PRIVATE KEY", base64.StdEncoding.EncodeToString([]byte("PRIVATE KEY"))[:12]} {
				if strings.Contains(string(o.Data), text) {
					w.t.Errorf("%s has a key as it is", o.Key)
				}
			}
		}
	}
	err := filepath.WalkDir(w.state, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, text := range []string{"PRIVATE", "LS0tLS1CRUdJTi", "acme-challenge", `"challenges"`, `"certificates"`} {
			if strings.Contains(string(data), text) {
				w.t.Errorf("%s has %q", path, text)
			}
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	conn, err := tls.Dial("tcp", w.https.Addr().String(), &tls.Config{NextProtos: []string{"acme-tls/1"}, ServerName: "shop.example.com", InsecureSkipVerify: true}) //nolint:gosec // it must fail before
	if err == nil {
		conn.Close()
		w.t.Error("a challenge is answered still")
	}
}

// TestByDNS gets a wildcard by dynamic updates and by a program.
func TestByDNS(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(updateSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string]func(w *world) string{
		"with a zone":    func(w *world) string { return "rfc2136://update@" + w.names.address + "/example.com?secret=" + secret },
		"without a zone": func(w *world) string { return "rfc2136://update@" + w.names.address + "?secret=" + secret },
		"by a program":   func(w *world) string { return w.program(true) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.startProxy()
			a := startAuthority(t, 1, 1, w.names, 0, false)
			dns, err := acme.ParseDNS(how(w))
			if err != nil {
				t.Fatal(err)
			}
			m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots, DNS: dns})
			w.want(m, "*.example.com", "shop.example.com")
			w.eventually("all have certificates", func() bool {
				return len(w.events("certificate-issued")) == 2 && w.shown(a, "shop.example.com") != nil && w.shown(a, "other.example.com") != nil
			})
			w.names.mu.Lock()
			defer w.names.mu.Unlock()
			if len(w.names.txt) != 0 {
				t.Error("records are left:", w.names.txt)
			}
		})
	}
}

// program makes one that changes records by a request to this test, as a person's would at a provider.
func (w *world) program(works bool) string {
	w.t.Helper()
	l := listen(w.t, "tcp", "127.0.0.1:0")
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		w.names.mu.Lock()
		defer w.names.mu.Unlock()
		if r.FormValue("what") == "put" {
			w.names.txt[r.FormValue("name")] = append(w.names.txt[r.FormValue("name")], r.FormValue("value"))
		} else {
			delete(w.names.txt, r.FormValue("name"))
		}
	})}
	go func() { _ = server.Serve(l) }()
	w.t.Cleanup(func() { server.Close() })
	path := filepath.Join(w.t.TempDir(), "dns")
	script := fmt.Sprintf("#!/bin/sh\nexec curl -sfG --data-urlencode what=\"$1\" --data-urlencode name=\"$2\" --data-urlencode value=\"$3\" http://%s/\n", l.Addr())
	if !works {
		script = "#!/bin/sh\necho no access to the zone >&2\nexit 3\n"
	}
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// TestRenewal renews before the end, with an account that is kept over a restart of the manager.
func TestRenewal(t *testing.T) {
	w := newWorld(t)
	w.startProxy()
	a := startAuthority(t, portOf(w.http), portOf(w.https), w.names, 20, false)
	m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots})
	w.want(m, "shop.example.com")
	w.eventually("a certificate", func() bool { return w.shown(a, "shop.example.com") != nil })
	first := w.shown(a, "shop.example.com")
	w.eventually("another certificate", func() bool {
		now := w.shown(a, "shop.example.com")
		return now != nil && first != nil && !now.Equal(first)
	})
	if time.Now().After(first.NotAfter) {
		t.Error("it was renewed when it had expired")
	}
	if got := w.events("certificate-renewed"); len(got) == 0 {
		t.Error("nobody was told")
	}
	accounts, _, err := w.store.List(t.Context(), "acme-account", "")
	if err != nil || len(accounts) != 1 {
		t.Fatal(accounts, err)
	}
	before := accounts[0].Revision
	again := w.manage(acme.Config{Directory: a.directory, Roots: a.roots})
	w.want(again, "shop.example.com", "api.example.com")
	w.eventually("one by the same account", func() bool { return w.shown(a, "api.example.com") != nil })
	if accounts, _, err = w.store.List(t.Context(), "acme-account", ""); err != nil || len(accounts) != 1 || accounts[0].Revision != before {
		t.Error("the account is another one:", accounts, err)
	}
}

// TestFailures says what went wrong, waits before it tries again, and does not hold up others.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	w.startProxy()
	w.names.nowhere["gone.example.com."] = true
	a := startAuthority(t, portOf(w.http), portOf(w.https), w.names, 0, false)
	m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots})
	w.want(m, "gone.example.com", "*.example.com", "shop.example.com")
	w.eventually("the other one has its certificate", func() bool { return w.shown(a, "shop.example.com") != nil })
	w.eventually("the failures are known", func() bool { return len(w.events("certificate-failed")) == 2 })
	gone := info(t, m, "gone.example.com")
	if gone.State != maru.CertificateFailed || !strings.Contains(gone.Message, "the authority says") || !strings.Contains(gone.Message, "ports 80 and 443") {
		t.Errorf("%+v", gone)
	}
	if wait := time.Until(gone.Renewal); wait < 10*time.Minute || wait > 20*time.Minute {
		t.Error("it is tried again in", wait)
	}
	if star := info(t, m, "*.example.com"); !strings.Contains(star.Message, "--acme-dns") {
		t.Errorf("%+v", star)
	}
	a.mu.Lock()
	before := a.orders
	a.mu.Unlock()
	for range 20 {
		m.Wake()
		info(t, m, "gone.example.com")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.orders != before {
		t.Errorf("%d orders before their time", a.orders-before)
	}
	w.want(m, "shop.example.com")
	w.eventually("what failed is forgotten", func() bool {
		objects, _, err := w.store.List(t.Context(), "acme-host", "")
		return err == nil && len(objects) == 1
	})
}

// TestProgramFails says what the program for DNS said.
func TestProgramFails(t *testing.T) {
	w := newWorld(t)
	a := startAuthority(t, 1, 1, w.names, 0, false)
	dns, err := acme.ParseDNS(w.program(false))
	if err != nil {
		t.Fatal(err)
	}
	m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots, DNS: dns})
	w.want(m, "shop.example.com")
	w.eventually("it failed", func() bool { return len(w.events("certificate-failed")) == 1 })
	if got := info(t, m, "shop.example.com"); !strings.Contains(got.Message, "no access to the zone") {
		t.Error(got.Message)
	}
}

// TestUnreachable leaves an authority alone that is out of order, and blames no host for it.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	w.startProxy()
	a := startAuthority(t, portOf(w.http), portOf(w.https), w.names, 0, false)
	a.setDown(true)
	m := w.manage(acme.Config{Directory: a.directory, Roots: a.roots})
	w.want(m, "shop.example.com")
	w.eventually("it was tried", func() bool { return m.Quiet() > 0 })
	if got := info(t, m, "shop.example.com"); got.State != maru.CertificatePending || len(w.events("certificate-failed")) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestBinding registers the account at an authority that takes those it knows only.
func TestBinding(t *testing.T) {
	w := newWorld(t)
	w.startProxy()
	a := startAuthority(t, portOf(w.http), portOf(w.https), w.names, 0, true)
	m := w.manage(acme.Config{
		Directory: a.directory, Roots: a.roots, BindingID: "kid-1",
		BindingKey: base64.RawURLEncoding.EncodeToString([]byte("a key of thirty-two bytes or more")),
	})
	w.want(m, "shop.example.com")
	w.eventually("a certificate", func() bool { return w.shown(a, "shop.example.com") != nil })
}

// TestChallengesOfOthers leaves a service its own challenges.
func TestChallengesOfOthers(t *testing.T) {
	w := newWorld(t)
	inst := listen(t, "tcp", "127.79.0.1:0")
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "service: ", r.URL.Path) })}
	go func() { _ = server.Serve(inst) }()
	t.Cleanup(func() { server.Close() })
	w.startProxy()
	at := inst.Addr().(*net.TCPAddr).AddrPort()
	w.publisher.Set(maru.ServiceTraffic{
		Service: shop.Service("web"), Ports: []maru.Port{{Port: at.Port(), Protocol: maru.TCP, App: "http"}},
		Routes:    []maru.Route{{Host: "shop.example.com"}},
		Endpoints: []maru.Endpoint{{Instance: "a", Release: 1, Addresses: maru.Addresses{V4: at.Addr()}, Ready: true}},
	})
	if err := w.publisher.Challenge(t.Context(), []maru.Challenge{{Host: "shop.example.com", Token: "abc", Answer: "abc.key"}}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"abc": "abc.key", "other": "service: /.well-known/acme-challenge/other", "abc/": "service: /.well-known/acme-challenge/abc/",
	} {
		r, err := http.NewRequest("GET", "http://"+w.http.Addr().String()+"/.well-known/acme-challenge/"+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "shop.example.com"
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}
