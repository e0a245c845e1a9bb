package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/server"
	"github.com/marucloud/maru/store/memory"
)

// rig is a server that serves, and clients of it.
type rig struct {
	t       testing.TB
	socket  string
	gateway string
	server  *server.Server
	world   *world
	store   maru.Store
	local   *client.Client // by the unix socket, as the server's own user
	url     string
	root    []byte
	log     *lockedBuffer
	stop    context.CancelFunc
	stopped chan error
}

// ownRegistry has the images below own.test, those of APP for whoever deploys it.
type ownRegistry struct{ http.Handler }

func (ownRegistry) Image(_ context.Context, reference string, scope maru.Scope) (string, bool, error) {
	path, own := strings.CutPrefix(reference, "own.test/")
	app, _, _ := strings.Cut(path, "/")
	if own && !scope.Covers(maru.Scope{Project: scope.Project, Environment: scope.Environment, App: app}) {
		return "", true, maru.Errorf(maru.Denied, "image %s is of another app", reference)
	}
	return maru.RegistryHost + "/default/" + path, own, nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, world: newWorld(), store: memory.New(), log: &lockedBuffer{}, stopped: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	dir := t.TempDir()
	deps := r.world.deps(r.store)
	deps.Git = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "git") })
	deps.Registry = ownRegistry{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "registry") })}
	s, err := server.New(server.Config{Data: dir, HTTPPort: 8080, HTTPSPort: 8443}, deps, log)
	if err != nil {
		t.Fatal(err)
	}
	r.server = s
	socket := filepath.Join(dir, "s.sock")
	r.socket = socket
	inside, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r.gateway = filepath.Join(dir, "g.sock")
	behind, err := net.Listen("unix", r.gateway)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificate, root := selfSigned(t)
	r.root, r.url = root, "https://"+outside.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		r.stopped <- s.Serve(ctx, 5*time.Second, server.Door{Listener: inside}, server.Door{Listener: behind, Gateway: true},
			server.Door{Listener: outside, TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-r.stopped; err != nil {
			t.Error(err)
		}
		r.stopped <- nil
		_ = inside.Close()
		_ = behind.Close()
		_ = outside.Close()
	})
	r.local = r.client(client.Options{Socket: socket})
	return r
}

func (r *rig) client(o client.Options) *client.Client {
	r.t.Helper()
	c, err := client.New(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// behindGateway gives the answer to a request that the gateway passes on, or its status when that is no success.
func (r *rig) behindGateway(path string) string {
	r.t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.gateway)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://localhost" + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Sprint(response.StatusCode)
	}
	return string(body)
}

// as gives a client with a new token.
func (r *rig) as(name string, role maru.Role, scope maru.Scope) *client.Client {
	r.t.Helper()
	secret, _, err := r.world.CreateToken(r.t.Context(), "test", maru.Token{Name: name, Role: role, Scope: scope})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.client(client.Options{URL: r.url, Token: secret, Authority: r.root})
}

func selfSigned(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func appStruct(t testing.TB, app maru.App) *structpb.Struct {
	t.Helper()
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON(maru.Raw(app)); err != nil {
		t.Fatal(err)
	}
	return s
}

func protoScope(s maru.Scope) *maruv1.Scope {
	return &maruv1.Scope{Project: s.Project, Environment: s.Environment, App: s.App}
}

// wantKind fails the test unless the error has the kind.
func wantKind(t testing.TB, err error, kind maru.Kind) {
	t.Helper()
	if got := maru.KindOf(err); got != kind {
		t.Fatalf("error %v is of kind %q, want %q", err, got, kind)
	}
}

func wantNil(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, maru.HintOf(err))
	}
}

// plainApp has one service that runs an image.
func plainApp() maru.App {
	return maru.App{Name: "shop", Services: map[string]maru.Service{"web": {
		Kind: maru.LongRunning, Image: "web:1", Replicas: 2,
		Routes:  []maru.Route{{Host: "shop.localhost", Path: "/x"}},
		Publish: []maru.PublishedPort{{HostPort: 5432, Target: maru.Port{Port: 1, Protocol: maru.TCP}}},
	}}}
}

// deployed is what a deploy told.
type deployed struct {
	progress []*maruv1.Progress
	statuses []*maruv1.RolloutStatus
	result   *maruv1.DeployResult
}

func (r *rig) deploy(c *client.Client, req *maruv1.DeployRequest) (deployed, error) {
	r.t.Helper()
	var d deployed
	stream, err := c.Apps.Deploy(r.t.Context(), req)
	if err != nil {
		return d, err
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		switch {
		case m.GetProgress() != nil:
			d.progress = append(d.progress, m.GetProgress())
		case m.GetStatus() != nil:
			d.statuses = append(d.statuses, m.GetStatus())
		case m.GetResult() != nil:
			d.result = m.GetResult()
		}
	}
	return d, stream.Err()
}

func (r *rig) request(app maru.App) *maruv1.DeployRequest {
	r.t.Helper()
	return &maruv1.DeployRequest{Scope: &maruv1.Scope{App: app.Name}, App: appStruct(r.t, app)}
}

// https gives a plain HTTP client for the TLS door.
func (r *rig) https() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.root)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}
