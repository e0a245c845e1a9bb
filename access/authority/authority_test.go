package authority

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/secrets"
)

func authority(t testing.TB, folder string, sealer Sealer, config Config) *Authority {
	t.Helper()
	a, err := Open(folder, sealer, config)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func box(t testing.TB) *secrets.Box {
	t.Helper()
	b, err := secrets.OpenBox(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, c maru.Certificate) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func verify(a *Authority, leaf *x509.Certificate, name string) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootPEM())
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: time.Now()})
	return err
}

func TestCertificates(t *testing.T) {
	a := authority(t, t.TempDir(), box(t), Config{Name: "here", Domains: []string{"localhost", "Internal", "box.lan"}})
	for asked, names := range map[string][]string{
		"shop.localhost": {"shop.localhost"},
		"SHOP.localhost": {"shop.localhost"},
		"localhost.":     {"localhost"},
		"*.localhost":    {"a.localhost", "b.localhost"},
		"web.internal":   {"web.internal"},
		"box.lan":        {"box.lan"},
		"a.box.lan":      {"a.box.lan"},
		"127.0.0.1":      {"127.0.0.1"},
		"192.168.7.9":    {"192.168.7.9"},
		"::1":            {"[::1]"},
		"fd00::1":        {"fd00::1"},
	} {
		c, err := a.Certificate(asked)
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		for _, name := range names {
			if err := verify(a, parsed(t, c), name); err != nil {
				t.Errorf("%s for %s: %v", asked, name, err)
			}
		}
		if err := verify(a, parsed(t, c), "other.localhost.example"); err == nil {
			t.Errorf("%s is good for another name", asked)
		}
	}
	for _, asked := range []string{"", "example.com", "localhost.example.com", "notlocalhost", "*", "*.", "a b.localhost", "a..localhost", "-a.localhost", "é.localhost", "a.*.localhost", "8.8.8.8", "2001:db8::1", "fe80::1%eth0", strings.Repeat("a", 64) + ".localhost", "localhost:443"} {
		if _, err := a.Certificate(asked); maru.KindOf(err) != maru.Invalid || maru.HintOf(err) == "" {
			t.Errorf("%q: %v", asked, err)
		}
	}
	if _, err := a.Certificate(); maru.KindOf(err) != maru.Invalid {
		t.Errorf("no name: %v", err)
	}
}

func TestConstraintsHoldForOthersToo(t *testing.T) {
	a := authority(t, t.TempDir(), nil, Config{Domains: []string{"localhost"}})
	for _, name := range []string{"example.com", "8.8.8.8"} {
		l, err := a.issue([]string{name}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(a, l.tls.Leaf, name); err == nil {
			t.Errorf("a stolen root vouches for %s", name)
		}
	}
	free := authority(t, t.TempDir(), nil, Config{Domains: []string{"*"}})
	c, err := free.Certificate("example.com", "8.8.8.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.com", "8.8.8.8"} {
		if err := verify(free, parsed(t, c), name); err != nil {
			t.Error(err)
		}
	}
}

func TestReopen(t *testing.T) {
	folder, sealer := filepath.Join(t.TempDir(), "authority"), box(t)
	a := authority(t, folder, sealer, Config{})
	again := authority(t, folder, sealer, Config{Name: "other", Domains: []string{"other"}})
	if !bytes.Equal(a.RootPEM(), again.RootPEM()) || a.Fingerprint() != again.Fingerprint() || len(a.Fingerprint()) != 64 {
		t.Error("reopening made another root")
	}
	c, err := again.Certificate("a.localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(a, parsed(t, c), "a.localhost"); err != nil {
		t.Error(err)
	}
	path := filepath.Join(folder, file)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil || k.Key != nil {
		t.Errorf("the key is not sealed: %v", err)
	}
	for name, sealer := range map[string]Sealer{"no box": nil, "another box": box(t)} {
		if _, err := Open(folder, sealer, Config{}); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAdopt(t *testing.T) {
	folder, sealer := t.TempDir(), box(t)
	old, a := authority(t, t.TempDir(), nil, Config{}), authority(t, folder, sealer, Config{})
	before, err := a.Certificate("a.localhost")
	if err != nil {
		t.Fatal(err)
	}
	exported, err := old.Export()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Adopt(exported); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Authority{a, authority(t, folder, sealer, Config{})} {
		after, err := a.Certificate("a.localhost")
		if err != nil || bytes.Equal(before.Chain, after.Chain) {
			t.Errorf("the certificate is as before, %v", err)
		}
		if err := verify(old, parsed(t, after), "a.localhost"); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range []string{"", "{}", `{"certificate":"x","key":"AAAA"}`} {
		if err := a.Adopt([]byte(wrong)); maru.KindOf(err) != maru.Invalid {
			t.Errorf("adopted %q: %v", wrong, err)
		}
	}
}

func TestDamagedFile(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	authority(t, mine, nil, Config{})
	authority(t, other, nil, Config{})
	var k, o kept
	for folder, into := range map[string]*kept{mine: &k, other: &o} {
		data, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{
		"empty":          nil,
		"no certificate": maru.Raw(kept{Key: k.Key}),
		"no key":         maru.Raw(kept{Certificate: k.Certificate}),
		"another's key":  maru.Raw(kept{Certificate: k.Certificate, Key: o.Key}),
		"odd block":      maru.Raw(kept{Certificate: strings.ReplaceAll(k.Certificate, "CERTIFICATE", "THING"), Key: k.Key}),
		"odd bytes":      maru.Raw(kept{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), Key: k.Key}),
	} {
		if err := os.WriteFile(filepath.Join(mine, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(mine, nil, Config{}); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(filepath.Join(mine, file)); !bytes.Equal(after, data) {
			t.Errorf("%s: the file was replaced", name)
		}
	}
}

func TestRenewal(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, folder, nil, Config{Life: 30 * 24 * time.Hour})
		certificate := func() string {
			c, err := a.Certificate("shop.localhost")
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(a, parsed(t, c), "shop.localhost"); err != nil {
				t.Fatal(err)
			}
			return string(c.Chain)
		}
		first := certificate()
		time.Sleep(19 * 24 * time.Hour)
		if certificate() != first {
			t.Error("renewed too early")
		}
		time.Sleep(2 * 24 * time.Hour)
		second := certificate()
		if second == first {
			t.Error("not renewed")
		}
		time.Sleep(time.Until(a.Expires().Add(-time.Hour)))
		c, err := a.Certificate("shop.localhost")
		if err != nil || parsed(t, c).NotAfter.After(a.Expires()) {
			t.Errorf("valid longer than the root, %v", err)
		}
		time.Sleep(2 * time.Hour)
		next := authority(t, folder, nil, Config{})
		if next.Fingerprint() == a.Fingerprint() {
			t.Error("an expired root stays")
		}
	})
}

func TestConfig(t *testing.T) {
	for name, config := range map[string]Config{
		"short life": {Life: time.Second},
		"negative":   {Life: -time.Hour},
		"odd domain": {Domains: []string{"a b"}},
		"wildcard":   {Domains: []string{"*.localhost"}},
	} {
		if _, err := Open(t.TempDir(), nil, config); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := authority(t, t.TempDir(), nil, Config{}).Permits("shop.localhost"); err != nil {
		t.Error(err)
	}
}

func TestServe(t *testing.T) {
	a := authority(t, t.TempDir(), nil, Config{})
	config, err := a.TLSConfig("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: config, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})}
	defer server.Close()
	go func() { _ = server.ServeTLS(listener, "", "") }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.RootPEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		response, err := client.Get("https://" + net.JoinHostPort(host, port))
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || string(body) != "HTTP/2.0" {
			t.Errorf("%s answered %q, %v", host, body, err)
		}
	}
	if _, err := a.TLSConfig("example.com"); maru.KindOf(err) != maru.Invalid {
		t.Errorf("example.com: %v", err)
	}
}

func TestIssueFromMany(t *testing.T) {
	a := authority(t, t.TempDir(), nil, Config{})
	var all sync.WaitGroup
	seen := make(chan string, 8)
	for range cap(seen) {
		all.Go(func() {
			c, err := a.Certificate("a.localhost", "b.localhost")
			if err != nil {
				t.Error(err)
			}
			seen <- string(c.Chain)
		})
	}
	all.Wait()
	first := <-seen
	for range len(seen) {
		if <-seen != first {
			t.Error("the same names have two certificates")
		}
	}
}

// TestOpenSSL has another program verify what Go made.
func TestOpenSSL(t *testing.T) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("the openssl program is not here")
	}
	a := authority(t, t.TempDir(), nil, Config{})
	c, err := a.Certificate("shop.localhost", "127.0.0.1", "::1")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, data := range map[string][]byte{"root.pem": a.RootPEM(), "leaf.pem": c.Chain} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, "verify", "-x509_strict", "-CAfile", "root.pem", "-verify_hostname", "shop.localhost", "leaf.pem")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func FuzzPlainName(f *testing.F) {
	for _, name := range []string{"shop.localhost", "*.localhost", "::ffff:127.0.0.1", "é", "a..b", "localhost."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		plain, err := plainName(name)
		if err != nil {
			return
		}
		if again, err := plainName(plain); err != nil || again != plain {
			t.Errorf("%q became %q, then %q, %v", name, plain, again, err)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	a := authority(b, b.TempDir(), nil, Config{})
	for b.Loop() {
		if _, err := a.issue([]string{"shop.localhost"}, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
