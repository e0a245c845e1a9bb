package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// TestHandshakesOverReloads replaces the server and the proxy over and over while every request makes a
// TLS connection of its own: a proxy that accepts before it has its certificates fails some.
func TestHandshakesOverReloads(t *testing.T) {
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("MARU_RELOADS")); err == nil {
		rounds = n
	}
	m := host.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var mu sync.Mutex
	var failures []string
	requests := 0
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "busy.localhost"},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, m.HTTPS)
		},
	}
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				response, err := (&http.Client{Transport: transport, Timeout: requestTimeout}).Get("https://busy.localhost/")
				mu.Lock()
				if requests++; err != nil {
					failures = append(failures, fmt.Sprintf("from %s to %s: %v", began.Format("04:05.000"), time.Now().Format("04:05.000"), err))
				}
				mu.Unlock()
				if err == nil {
					_ = response.Body.Close()
				}
			}
		})
	}
	for range rounds {
		for _, process := range []string{"server", "proxy"} {
			if err := m.Reload(process); err != nil {
				t.Error(err)
			}
		}
	}
	cancel()
	running.Wait()
	for n, failed := range failures {
		if n < 20 {
			t.Error(failed)
		}
	}
	t.Logf("%d requests over %d reloads, %d failed", requests, 2*rounds, len(failures))
}
