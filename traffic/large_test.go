package traffic_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// TestManyRoutesAndCertificates: a proxy with the state of 10,000 services begins soon, has 2,000 certificates
// soon after it is told them, and a request costs what it costs among ten. Without MARU_TIMINGS there are
// fewer, and no bars.
func TestManyRoutesAndCertificates(t *testing.T) {
	services, certificates := 500, 100
	timings := os.Getenv("MARU_TIMINGS") != ""
	if timings {
		services, certificates = 10_000, 2_000
	}
	folder := t.TempDir()
	a := startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "a") }))
	one := func(i int) maru.ServiceTraffic {
		s := web(a)
		name := fmt.Sprint("s", i)
		s.Service, s.VirtualAddress, s.Networks = shop.Service(name), maru.Addresses{}, map[string][]string{"default/production/shop/default": {name}}
		s.Routes = []maru.Route{{Host: fmt.Sprintf("s%d.test", i)}}
		return s
	}
	var all []maru.ServiceTraffic
	for i := range services {
		all = append(all, one(i))
	}
	full := maru.TrafficUpdate{Version: 1, Full: true, Services: all}
	before := newWorld(t, func(cfg *traffic.Config) { cfg.State = folder })
	if err := before.Update(full); err != nil {
		t.Fatal(err)
	}
	before.stop()

	l := listen(t, "127.0.0.1:0")
	began := time.Now()
	w := newWorld(t, func(cfg *traffic.Config) { cfg.State, cfg.Listeners["https"] = folder, l })
	askHost(t, http.DefaultClient, fmt.Sprintf("s%d.test", services-1), "http://"+w.http)
	routes := time.Since(began)

	roots := x509.NewCertPool()
	for i := range certificates {
		c, leaf := certificateFor(t, fmt.Sprintf("s%d.test", i))
		full.Certificates = append(full.Certificates, c)
		roots.AddCert(leaf)
	}
	began = time.Now()
	if err := w.Update(full); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprintf("s%d.test", certificates-1)
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: last}, DialContext: w.dial(l.Addr().String())}}
	defer secure.CloseIdleConnections()
	askHost(t, secure, last, "https://"+last)
	known := time.Since(began)

	few := newWorld(t, nil)
	few.set(all[:10]...)
	among := func(w *world, host string) time.Duration {
		var took []time.Duration
		for range 300 {
			began := time.Now()
			askHost(t, http.DefaultClient, host, "http://"+w.http)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	among(few, "s9.test") // connections are made
	ten, many := among(few, "s9.test"), among(w, fmt.Sprintf("s%d.test", services-1))
	t.Logf("%d routes in force %s after the start, %d certificates %s after they came; a request takes %s among 10 routes, %s among %d",
		services, routes, certificates, known, ten, many, services)
	if timings && (routes > 2*time.Second || known > 2*time.Second || many > ten*3/2) {
		t.Error("too late, or too slow")
	}
}

func askHost(t *testing.T, client *http.Client, host, address string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || string(body) != "a" {
		t.Fatalf("%d %s %v", res.StatusCode, body, err)
	}
}
