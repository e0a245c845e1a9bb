package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // only where BENCH_PPROF says
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/accesslog"
)

// serveCommand has this program be the proxy: what "maru proxy" runs, told its state directly.
const serveCommand = "serve-maru"

func startMaru(ctx context.Context, folder, backend string) (*proxy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, secure := freeAddress(), freeAddress()
	p, err := start(ctx, folder, "maru", address, self, serveCommand, address, secure, backend, filepath.Join(folder, "maru.log"))
	if err == nil {
		p.version, p.secure = "this one", secure
	}
	return p, err
}

func serveMaru(args []string) error {
	address, secure, backend, log := args[0], args[1], args[2], args[3]
	if at := os.Getenv("BENCH_PPROF"); at != "" {
		go func() { _ = http.ListenAndServe(at, nil) }() //nolint:gosec // for whoever profiles this
	}
	at, err := netip.ParseAddrPort(backend)
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	tls, err := net.Listen("tcp", secure)
	if err != nil {
		return err
	}
	file, err := accesslog.OpenFile(log, accesslog.FileConfig{})
	if err != nil {
		return err
	}
	defer file.Close()
	p, err := traffic.New(traffic.Config{Listeners: map[string]net.Listener{"http": plain, "https": tls}, AccessLog: file}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	certificate, err := readCertificate(filepath.Dir(log))
	if err != nil {
		return err
	}
	scope := maru.Scope{Project: "default", Environment: "production", App: "bench"}
	if err := p.Update(maru.TrafficUpdate{Version: 1, Full: true, Certificates: []maru.Certificate{certificate}, Services: []maru.ServiceTraffic{{
		Service: scope.Service("web"), Routes: []maru.Route{{Port: at.Port()}},
		Ports:     []maru.Port{{Port: at.Port(), Protocol: maru.TCP, App: "http"}},
		Endpoints: []maru.Endpoint{{Instance: "web-1-a", Release: 1, Ready: true, Addresses: maru.Addresses{V4: at.Addr()}}},
	}}}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return p.Run(ctx)
}

// Names of the certificate's files, which all proxies have.
const (
	chainFile = "certificate.pem"
	keyFile   = "key.pem"
)

func writeCertificate(folder string) error {
	c, err := selfSigned()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{chainFile: c.Chain, keyFile: c.Key, "both.pem": append(slices.Clone(c.Chain), c.Key...)} {
		if _, err := write(folder, name, string(data)); err != nil {
			return err
		}
	}
	return nil
}

func readCertificate(folder string) (c maru.Certificate, err error) {
	if c.Chain, err = os.ReadFile(filepath.Join(folder, chainFile)); err == nil {
		c.Key, err = os.ReadFile(filepath.Join(folder, keyFile))
	}
	return c, err
}

func selfSigned() (maru.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return maru.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench.test"}, DNSNames: []string{"bench.test", "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return maru.Certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return maru.Certificate{}, err
	}
	return maru.Certificate{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}
