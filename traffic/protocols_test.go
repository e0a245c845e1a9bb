package traffic_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// certificateFor makes a self-signed certificate.
func certificateFor(t testing.TB, names ...string) (maru.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return maru.Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, leaf
}

func TestTLS(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	w := newWorld(t, func(cfg *traffic.Config) { cfg.Listeners["https"] = l })
	one, oneLeaf := certificateFor(t, "other.test")
	two, twoLeaf := certificateFor(t, "web.test", "*.wild.test")
	s := web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.Header.Get("X-Forwarded-Proto"))
	})))
	s.Routes = append(s.Routes, maru.Route{Host: "*.wild.test"}, maru.Route{Host: "other.test"})
	if err := w.Update(maru.TrafficUpdate{Version: 1, Full: true, Services: []maru.ServiceTraffic{s}, Certificates: []maru.Certificate{one, two}}); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(oneLeaf)
	roots.AddCert(twoLeaf)
	for host, leaf := range map[string]*x509.Certificate{"web.test": twoLeaf, "a.wild.test": twoLeaf, "other.test": oneLeaf} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			transport := &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: host},
				ForceAttemptHTTP2: proto == "HTTP/2.0",
			}
			r, _ := http.NewRequest("GET", "https://"+l.Addr().String()+"/", http.NoBody)
			r.Host = host
			res, err := (&http.Client{Transport: transport}).Do(r)
			if err != nil {
				t.Fatal(host, err)
			}
			_, body := text(t, res, nil)
			if body != "https" || res.Proto != proto || !res.TLS.PeerCertificates[0].Equal(leaf) {
				t.Errorf("%s %s: %s, %s, %v", host, proto, body, res.Proto, res.TLS.PeerCertificates[0].DNSNames)
			}
			transport.CloseIdleConnections()
		}
	}
}

func h2cClient() *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: tr}
}

// TestFullDuplex answers each line before the next one is sent, by HTTP/1.1 and HTTP/2 to both.
func TestFullDuplex(t *testing.T) {
	w := newWorld(t, nil)
	inst := startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(rw)
		_ = rc.EnableFullDuplex()
		rw.Header().Set("Trailer", "X-Lines")
		_ = rc.Flush()
		n := 0
		for lines := bufio.NewScanner(r.Body); lines.Scan(); n++ {
			fmt.Fprintf(rw, "%s %s\n", r.Proto, lines.Text())
			_ = rc.Flush()
		}
		rw.Header().Set("X-Lines", fmt.Sprint(n))
		rw.Header().Set(http.TrailerPrefix+"X-Unannounced", "yes "+r.Trailer.Get("X-Sent"))
	}))
	for app, wantProto := range map[string]string{"http": "HTTP/1.1", "h2c": "HTTP/2.0"} {
		s := web(inst)
		s.Ports[0].App = app
		w.set(s)
		client := h2cClient()
		pr, pw := io.Pipe()
		r := w.request("POST", "web.test", "/")
		r.Body = pr
		r.Trailer = http.Header{"X-Sent": nil}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(res.Body)
		for i := range 3 {
			fmt.Fprintf(pw, "%d\n", i)
			if !lines.Scan() || lines.Text() != fmt.Sprintf("%s %d", wantProto, i) {
				t.Fatalf("%q %v", lines.Text(), lines.Err())
			}
		}
		r.Trailer.Set("X-Sent", "trailer")
		pw.Close()
		if lines.Scan() || lines.Err() != nil {
			t.Fatalf("%q %v", lines.Text(), lines.Err())
		}
		if res.Trailer.Get("X-Lines") != "3" || res.Trailer.Get("X-Unannounced") != "yes trailer" {
			t.Errorf("%s: trailers %v", app, res.Trailer)
		}
		res.Body.Close()
	}
}

func TestEarlyHints(t *testing.T) {
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		fmt.Fprint(rw, "body")
	}))))
	var hint string
	r := w.request("GET", "web.test", "/")
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hint = fmt.Sprint(code, h.Get("Link"))
		return nil
	}}))
	res, err := http.DefaultClient.Do(r)
	if _, body := text(t, res, err); body != "body" || hint != "103</style.css>; rel=preload" || res.Header.Get("Link") != "" {
		t.Errorf("%s, hint %s, then %v", body, hint, res.Header)
	}
}

func TestRoutes(t *testing.T) {
	w := newWorld(t, nil)
	echo := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, r.RequestURI, " ", r.Header.Get("X-Set"), " ", r.Host)
	})
	service := func(name string, routes ...maru.Route) maru.ServiceTraffic {
		s := web(startInstance(t, name, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, name, " ")
			echo(rw, r)
		})))
		s.Service, s.Routes = shop.Service(name), routes
		return s
	}
	w.set(
		service("exact", maru.Route{Host: "a.test", Path: "/"}),
		service("api", maru.Route{Host: "a.test", Path: "/api", StripPrefix: true, Headers: map[string]string{"X-Set": "yes"}}),
		service("apiv2", maru.Route{Host: "a.test", Path: "/api/v2/"}),
		service("wild", maru.Route{Host: "*.a.test"}),
		service("deepwild", maru.Route{Host: "*.b.a.test", Headers: map[string]string{"Host": "inner"}}),
		service("any", maru.Route{Path: "/well-known"}),
		service("late", maru.Route{Host: "A.test.", Path: ""}),
	)
	for _, c := range []struct{ host, path, want string }{
		{"a.test", "/x", "exact /x  a.test"},
		{"A.Test:80", "/x", "exact /x  A.Test:80"},
		{"a.test", "/api", "api / yes a.test"},
		{"a.test", "/api/x%2Fy?q=1", "api /x%2Fy?q=1 yes a.test"},
		{"a.test", "/apix", "exact /apix  a.test"},
		{"a.test", "/api/v2/x/y", "apiv2 /api/v2/x/y  a.test"},
		{"z.a.test", "/", "wild /  z.a.test"},
		{"z.c.a.test", "/", "wild /  z.c.a.test"},
		{"z.b.a.test", "/", "deepwild /  inner"},
		{"other", "/well-known/x", "any /well-known/x  other"},
		{"a.test", "/well-known/x", "exact /well-known/x  a.test"},
	} {
		res, err := http.DefaultClient.Do(w.request("GET", c.host, c.path))
		if _, body := text(t, res, err); body != c.want {
			t.Errorf("%s%s: %q, want %q", c.host, c.path, body, c.want)
		}
	}
	problems := w.Report().Problems
	if len(problems) != 1 || problems[0].Service.Service != "late" || problems[0].Why != "default/production/shop/exact has it already" {
		t.Errorf("%v", problems)
	}
	if err := w.Update(maru.TrafficUpdate{Version: w.version.Add(1), Removed: []maru.ServiceID{shop.Service("exact")}}); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(w.request("GET", "a.test", "/x"))
	if _, body := text(t, res, err); !strings.HasPrefix(body, "late ") || len(w.Report().Problems) != 0 {
		t.Errorf("%s %v", body, w.Report().Problems)
	}
}
