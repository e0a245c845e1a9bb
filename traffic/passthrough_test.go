package traffic_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/proxyproto"
)

// startTLS is an instance that ends TLS itself, with a certificate of its own, and says whom it hears.
func startTLS(t *testing.T, id string, proxied bool, names ...string) (*instance, *x509.Certificate) {
	t.Helper()
	cert, leaf := certificateFor(t, names...)
	pair, err := tls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{id: id, addr: freshAddress()}
	var l net.Listener = listen(t, netip.AddrPortFrom(i.addr, 8443).String())
	if proxied {
		l = told{l}
	}
	i.server = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(rw, "%s hears %s for %s by %s", id, host, r.Host, r.Proto)
	}), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = i.server.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		i.server.Close()
		<-done
	})
	return i, leaf
}

// told reads the PROXY header of each connection, as a service that is told its clients does.
type told struct{ net.Listener }

func (l told) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return proxyproto.Trusted{netip.MustParsePrefix("127.0.0.0/8")}.Accept(c)
}

// passing is a service whose TLS is passed through.
func passing(hosts []string, instances ...*instance) maru.ServiceTraffic {
	s := web(instances...)
	s.Service, s.VirtualAddress = shop.Service("own"), maru.Addresses{V4: netip.MustParseAddr("127.78.0.12")}
	s.Ports = []maru.Port{{Port: 8443, Protocol: maru.TCP, App: "tcp"}}
	s.Routes = nil
	for _, host := range hosts {
		s.Routes = append(s.Routes, maru.Route{Host: host, Port: 8443, TLS: &maru.RouteTLS{Passthrough: true}})
	}
	return s
}

// TestTLSPassthrough leads connections to services that end TLS themselves, beside those whose TLS ends at
// the gateway, on one port.
func TestTLSPassthrough(t *testing.T) {
	w := newSecureWorld(t, false, func(cfg *traffic.Config) { cfg.Hold = 100 * time.Millisecond }, "web.test", "ended.wild.test")
	w.set(web(startInstance(t, "a", say("ended"))))
	own, leaf := startTLS(t, "own", false, "own.test", "*.wild.test")
	s := passing([]string{"own.test", "*.wild.test"}, own)
	w.set(s)
	w.roots.AddCert(leaf)
	ended := web()
	ended.Service, ended.Routes = shop.Service("ended"), []maru.Route{{Host: "ended.wild.test", Path: "/only"}}
	w.set(ended)
	for _, http2 := range []bool{false, true} {
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
		c := w.client(nil, http2)
		for url, want := range map[string]string{
			"https://web.test/": "ended", "https://own.test/x": "own hears 127.0.0.1 for own.test by " + proto,
			"https://a.wild.test/": "own hears 127.0.0.1 for a.wild.test by " + proto,
		} {
			if res, body := ask(t, c, url, nil); body != want {
				t.Errorf("%s: %s %q, want %q", url, res.Status, body, want)
			}
		}
		if res, body := ask(t, c, "https://ended.wild.test/only", nil); res.StatusCode != 503 || strings.Contains(body, "own hears") {
			t.Error("the TLS of a host with routes of its own is passed through:", res.Status, body)
		}
		// On a connection for another host nobody gets past the service's TLS.
		if res, _ := ask(t, c, "https://web.test/", func(r *http.Request) { r.Host = "own.test" }); res.StatusCode != 421 {
			t.Error(res.Status)
		}
	}
	if res, _ := w.spell("GET", "own.test", "/a?b"); res.StatusCode != 308 || !strings.HasPrefix(res.Header.Get("Location"), "https://own.test") {
		t.Error(res.Status, res.Header)
	}
	// A route that says more is not passed through: what it says would not be done.
	s.Routes[0].Policy = &maru.RoutePolicy{Addresses: &maru.AddressList{Deny: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
	w.set(s)
	conn, err := tls.Dial("tcp", w.https, &tls.Config{ServerName: "own.test", InsecureSkipVerify: true}) //nolint:gosec // what is shown is looked at
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.ConnectionState().PeerCertificates[0].Equal(leaf) {
		t.Error("a route with a policy is passed through")
	}
	// Nobody to lead to.
	s.Routes, s.Endpoints = passing([]string{"own.test"}).Routes, nil
	w.set(s)
	if conn, err := tls.Dial("tcp", w.https, &tls.Config{ServerName: "own.test", RootCAs: w.roots}); err == nil {
		conn.Close()
		t.Error("somebody answers")
	}
}

// TestPassthroughHellos: a ClientHello counts as a whole, in however many records and packets it comes, and one
// that does not is not waited for.
func TestPassthroughHellos(t *testing.T) {
	w := newSecureWorld(t, false, nil, "web.test")
	w.set(web(startInstance(t, "a", say("ended"))))
	own, leaf := startTLS(t, "own", false, "own.test")
	w.set(passing([]string{"own.test"}, own))
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for name, spread := range map[string]func(hello []byte) [][]byte{
		"whole":              func(hello []byte) [][]byte { return [][]byte{hello} },
		"many packets":       func(hello []byte) [][]byte { return pieces(hello, 100) },
		"many records":       func(hello []byte) [][]byte { return [][]byte{records(hello, 50)} },
		"records of a byte":  func(hello []byte) [][]byte { return [][]byte{records(hello, 1)} },
		"records in packets": func(hello []byte) [][]byte { return pieces(records(hello, 13), 7) },
	} {
		c := dialWith(t, w.https, &tls.Config{ServerName: "own.test", RootCAs: roots, NextProtos: []string{"http/1.1", "\x0a\x0a"}}, spread)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: own.test\r\nConnection: close\r\n\r\n"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if answer, err := io.ReadAll(c); err != nil || !bytes.Contains(answer, []byte("own hears 127.0.0.1")) {
			t.Errorf("%s: %v %s", name, err, answer)
		}
	}
	for what, text := range map[string]string{
		"no TLS": "GET / HTTP/1.1\r\nHost: own.test\r\n\r\n", "an alert": "\x15\x03\x01\x00\x02\x02\x00",
		"a hello of another length": "\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00", "endless": strings.Repeat("\x16\x03\x01\x00\x01\x01", 40_000),
		"nothing in records": strings.Repeat("\x16\x03\x01\x00\x00", 1000),
	} {
		c, err := net.Dial("tcp", w.https)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(4 * time.Second))
		_, _ = io.WriteString(c, text)
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %v", what, err)
		}
		c.Close()
	}
	if res, body := ask(t, w.client(nil, true), "https://web.test/", nil); body != "ended" {
		t.Error(res.Status, body)
	}
}

// TestPassthroughOfEncryptedHellos: an encrypted ClientHello (RFC 9849) goes by its outer name, as the key to the
// inner one is the service's.
func TestPassthroughOfEncryptedHellos(t *testing.T) {
	w := newSecureWorld(t, false, nil, "web.test")
	w.set(web(startInstance(t, "a", say("ended"))))
	cert, leaf := certificateFor(t, "own.test", "hidden.test")
	pair, err := tls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := encryptedHelloKey(t, "own.test")
	own := &instance{id: "own", addr: freshAddress()}
	l := tls.NewListener(listen(t, netip.AddrPortFrom(own.addr, 8443).String()),
		&tls.Config{Certificates: []tls.Certificate{pair}, EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{key}})
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		served <- err
	}()
	w.set(passing([]string{"own.test"}, own))
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	c, err := tls.Dial("tcp", w.https, &tls.Config{ServerName: "hidden.test", RootCAs: roots,
		EncryptedClientHelloConfigList: append(binary.BigEndian.AppendUint16(nil, uint16(len(key.Config))), key.Config...)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if state := c.ConnectionState(); !state.ECHAccepted || !state.PeerCertificates[0].Equal(leaf) {
		t.Errorf("the service did not get the inner hello: %+v", state)
	}
	if _, err := io.WriteString(c, "echo"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(c); err != nil || string(back) != "echo" {
		t.Errorf("%q, %v", back, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// encryptedHelloKey makes an ECHConfig (RFC 9849, section 4) for the outer name, by X25519, HKDF-SHA256 and AES-128-GCM.
func encryptedHelloKey(t *testing.T, name string) tls.EncryptedClientHelloKey {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	put := binary.BigEndian.AppendUint16
	public := key.PublicKey().Bytes()
	contents := put([]byte{1}, 0x0020) // its number, and the KEM
	contents = append(put(contents, uint16(len(public))), public...)
	contents = put(put(put(contents, 4), 1), 1) // one suite
	contents = append(contents, 0, byte(len(name)))
	contents = put(append(contents, name...), 0) // no extensions
	config := append(put(put(nil, 0xfe0d), uint16(len(contents))), contents...)
	return tls.EncryptedClientHelloKey{Config: config, PrivateKey: key.Bytes(), SendAsRetry: true}
}

func pieces(data []byte, size int) (all [][]byte) {
	for ; len(data) > size; data = data[size:] {
		all = append(all, data[:size])
	}
	return append(all, data)
}

// records spreads the one record of a hello over many.
func records(hello []byte, size int) (all []byte) {
	for _, part := range pieces(hello[5:], size) {
		all = append(all, hello[:3]...)
		all = binary.BigEndian.AppendUint16(all, uint16(len(part)))
		all = append(all, part...)
	}
	return all
}

// dialWith begins TLS with a first flight that is spread.
func dialWith(t *testing.T, address string, cfg *tls.Config, spread func([]byte) [][]byte) *tls.Conn {
	t.Helper()
	under, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(&spreading{Conn: under, spread: spread}, cfg)
	t.Cleanup(func() { c.Close() })
	return c
}

type spreading struct {
	net.Conn
	spread func([]byte) [][]byte
}

func (s *spreading) Write(p []byte) (int, error) {
	if s.spread == nil {
		return s.Conn.Write(p)
	}
	parts := s.spread(p)
	s.spread = nil
	for _, part := range parts {
		if _, err := s.Conn.Write(part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// TestPassthroughDrains: a connection that is passed through is finished when the proxy ends, within its time.
func TestPassthroughDrains(t *testing.T) {
	w := newSecureWorld(t, false, func(cfg *traffic.Config) { cfg.Drain = 300 * time.Millisecond }, "web.test")
	own, leaf := startTLS(t, "own", false, "own.test")
	w.set(passing([]string{"own.test"}, own))
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	conn, err := tls.Dial("tcp", w.https, &tls.Config{ServerName: "own.test", RootCAs: roots, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	silent, err := net.Dial("tcp", w.https)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.stop()
	}()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: own.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 12)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "HTTP/1.1 200" {
		t.Errorf("%v %s", err, buf)
	}
	<-done
	if took := time.Since(began); took > 4*time.Second {
		t.Error("took", took)
	}
}

// TestProxyProtocolIn: what a trusted proxy tells of its clients is believed, at each door, and what others
// tell is not.
func TestProxyProtocolIn(t *testing.T) {
	l, published := listen(t, "127.0.0.1:0"), freePort(t, netip.MustParseAddr("127.0.0.1"))
	raw := freePort(t, netip.MustParseAddr("127.0.0.1"))
	w := newSecureWorld(t, false, func(cfg *traffic.Config) {
		cfg.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
		cfg.Listeners["http2"] = l
	}, "web.test")
	i := startInstance(t, "a", echoHeaders("X-Forwarded-For", "X-Real-Ip"))
	s := web(i)
	s.Publish = []maru.PublishedPort{{HostIP: "127.0.0.1", HostPort: published, Target: s.Ports[0]}}
	w.set(s)
	own, leaf := startTLS(t, "own", true, "own.test")
	o := passing([]string{"own.test"}, own)
	o.Ports[0].ProxyProtocol = 2
	o.Publish = []maru.PublishedPort{{HostIP: "127.0.0.1", HostPort: raw, Target: o.Ports[0]}}
	w.set(o)
	w.roots.AddCert(leaf)
	client := netip.MustParseAddrPort("192.0.2.7:4711")
	for _, c := range []struct {
		what, door, url, from string
		header                []byte
		secure                bool
		want                  string // "": the connection is ended, or the request refused
	}{
		{"trusted, version 1", w.http, "http://web.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), false, `X-Forwarded-For=["192.0.2.7"]`},
		{"trusted, version 2", w.http, "http://web.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 2), false, `X-Forwarded-For=["192.0.2.7"]`},
		{"trusted, of itself", w.http, "http://web.test/", "127.0.0.9", proxyproto.Header{}.Append(nil, 2), false, `X-Forwarded-For=["127.0.0.9"]`},
		{"trusted, TLS", w.https, "https://web.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 2), true, `X-Forwarded-For=["192.0.2.7"]`},
		{"trusted, passed through", w.https, "https://own.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), true, "own hears 192.0.2.7"},
		{"trusted, published", fmt.Sprint("127.0.0.1:", published), "http://web.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), false, `X-Forwarded-For=["192.0.2.7"]`},
		{"trusted, published, by connection", fmt.Sprint("127.0.0.1:", raw), "https://own.test/", "127.0.0.9", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), true, "own hears 192.0.2.7"},
		{"trusted, but none", w.http, "http://web.test/", "127.0.0.9", nil, false, ""},
		{"another", w.http, "http://web.test/", "127.0.0.8", nil, false, `X-Forwarded-For=["127.0.0.8"]`},
		{"another, passed through", w.https, "https://own.test/", "127.0.0.8", nil, true, "own hears 127.0.0.8"},
		{"another, spoofs", w.http, "http://web.test/", "127.0.0.8", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), false, ""},
		{"another, spoofs by 2", w.http, "http://web.test/", "127.0.0.8", proxyproto.Header{Source: client, Destination: client}.Append(nil, 2), false, ""},
		{"another, spoofs by TLS", w.https, "https://web.test/", "127.0.0.8", proxyproto.Header{Source: client, Destination: client}.Append(nil, 2), true, ""},
		{"another, spoofs passed through", w.https, "https://own.test/", "127.0.0.8", proxyproto.Header{Source: client, Destination: client}.Append(nil, 2), true, ""},
		{"another, spoofs published", fmt.Sprint("127.0.0.1:", published), "http://web.test/", "127.0.0.8", proxyproto.Header{Source: client, Destination: client}.Append(nil, 1), false, ""},
	} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var conn net.Conn
			eventually(t, "a door is open", func() (ok bool) {
				var err error
				conn, err = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}).DialContext(ctx, "tcp", c.door)
				return err == nil
			})
			_, err := conn.Write(c.header)
			return conn, err
		}}
		got := ""
		if res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(c.url); err == nil {
			if status, body := text(t, res, nil); status == 200 {
				got = body
			}
		}
		tr.CloseIdleConnections()
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
