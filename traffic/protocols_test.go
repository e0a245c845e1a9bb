package traffic_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

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

// echoService is a gRPC service with a unary and a two-way method.
var echoService = grpc.ServiceDesc{
	ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Once", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := dec(in); err != nil {
			return nil, err
		}
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
		if in.Value == "fail" {
			return nil, status.Error(codes.FailedPrecondition, "as you wished: 100%")
		}
		return wrapperspb.String("you said " + in.Value), nil
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			in := new(wrapperspb.StringValue)
			if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(wrapperspb.String("you said " + in.Value)); err != nil {
				return err
			}
		}
	}}},
}

func grpcTo(t testing.TB, w *world, authority string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+w.http, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func startGRPC(t testing.TB, id string) *instance {
	t.Helper()
	i := &instance{id: id, addr: freshAddress()}
	i.l = listen(t, fmt.Sprintf("%s:%d", i.addr, port))
	server := grpc.NewServer()
	server.RegisterService(&echoService, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(i.l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	i.stop = func() { server.GracefulStop() }
	return i
}

func TestGRPC(t *testing.T) {
	w := newWorld(t, nil)
	for _, app := range []string{"grpc", "http"} { // a port that speaks both is often declared as http
		a, b := startGRPC(t, "a"), startGRPC(t, "b")
		s := web(a, b)
		s.Ports[0].App = app
		s.Timeout = 10 * time.Second
		w.set(s)
		c := grpcTo(t, w, "web.test")
		out := new(wrapperspb.StringValue)
		var trailer metadata.MD
		if err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), out, grpc.Trailer(&trailer)); err != nil || out.Value != "you said hi" || trailer.Get("x-trailer")[0] != "t" {
			t.Fatal(out, trailer, err)
		}
		err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("fail"), out)
		if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "as you wished: 100%" {
			t.Fatal(err)
		}
		talk, err := c.NewStream(t.Context(), &echoService.Streams[0], "/test.Echo/Talk")
		if err != nil {
			t.Fatal(err)
		}
		exchange := func(i int) {
			t.Helper()
			if err := talk.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if err := talk.RecvMsg(out); err != nil || out.Value != fmt.Sprintf("you said %d", i) {
				t.Fatal(out, err)
			}
		}
		exchange(0)
		// The instance that has the stream drains: the stream goes on, calls go elsewhere.
		for i := range s.Endpoints {
			s.Endpoints[i].Draining = true
		}
		third := startGRPC(t, "c")
		s.Endpoints = append(s.Endpoints, third.endpoint(1))
		w.set(s)
		for i := range 5 {
			exchange(i)
			if err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), out); err != nil {
				t.Fatal(err)
			}
		}
		if r := w.Report(); r.InFlight["a"]+r.InFlight["b"] != 1 {
			t.Fatal(r.InFlight)
		}
		if err := talk.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := talk.RecvMsg(out); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		eventually(t, "drained", func() bool { r := w.Report(); return r.InFlight["a"]+r.InFlight["b"] == 0 })
	}
	for host, want := range map[string]codes.Code{"nowhere.test": codes.Unimplemented, "down.test": codes.Unavailable} {
		down := web()
		down.Service, down.Routes = shop.Service("down"), []maru.Route{{Host: "down.test"}}
		w.set(down)
		err := grpcTo(t, w, host).Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), new(wrapperspb.StringValue))
		if status.Code(err) != want || !strings.Contains(err.Error(), "maru status") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestCanaryShares sends a known number of requests and counts where they go.
func TestCanaryShares(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startInstance(t, "a", say("1")), startInstance(t, "b", say("1")))
	canary := startInstance(t, "c", say("2")).endpoint(2)
	s.Endpoints = append(s.Endpoints, canary)
	s.Serving = []maru.Weight{{Release: 1, Weight: 95}, {Release: 2, Weight: 5}}
	w.set(s)
	got := map[string]int{}
	for range 200 {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", "/"))
		_, body := text(t, res, err)
		got[body]++
	}
	if got["2"] != 10 {
		t.Errorf("%v", got)
	}
	var counted uint64
	for c := range w.Counts() {
		if c.Service == s.Service && c.Release == 2 && c.Class == 2 {
			counted += c.Requests
		}
	}
	if counted != 10 {
		t.Errorf("counted %d", counted)
	}
}

// TestPlannedEnd ends a proxy under load while another one has the same socket.
func TestPlannedEnd(t *testing.T) {
	first := listen(t, "127.0.0.1:0")
	f, err := first.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	second, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	old := newWorld(t, func(cfg *traffic.Config) { cfg.Listeners["http"] = first; cfg.Linger = 300 * time.Millisecond })
	inst := web(startInstance(t, "a", say("a")))
	old.set(inst)
	ctxDone := make(chan struct{})
	failures := make(chan error, 100)
	finished := make(chan int, 8)
	for i := range 8 {
		go func() {
			n := 0
			client := &http.Client{Transport: &http.Transport{}}
			if i%2 == 0 {
				client = h2cClient()
			}
			for {
				select {
				case <-ctxDone:
					finished <- n
					return
				default:
				}
				r, _ := http.NewRequest("POST", "http://"+first.Addr().String()+"/", strings.NewReader("body"))
				r.GetBody = nil // so that the client does not try again by itself
				r.Host = "web.test"
				res, err := client.Do(r)
				if err == nil && res.StatusCode != 200 {
					err = errors.New(res.Status)
				}
				if err != nil {
					failures <- err
					finished <- n
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				n++
			}
		}()
	}
	served := func(w *world) (n uint64) {
		for c := range w.Counts() {
			n += c.Requests
		}
		return n
	}
	eventually(t, "load", func() bool { return served(old) > 100 })
	fresh := newWorld(t, func(cfg *traffic.Config) { cfg.Listeners["http"] = second })
	fresh.set(inst)
	old.stop()
	before := served(fresh)
	eventually(t, "the other one has it all", func() bool { return served(fresh) > before+100 })
	close(ctxDone)
	for range 8 {
		<-finished
	}
	select {
	case err := <-failures:
		t.Error(err)
	default:
	}
}
