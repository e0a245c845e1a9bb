package traffic_test

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestBigBodies carries MARU_GIGABYTES up and down at once, a quarter of one without it, by each protocol: the
// memory of all that takes part, client and service too, stays what it is.
func TestBigBodies(t *testing.T) {
	size := int64(256 << 20)
	if s := os.Getenv("MARU_GIGABYTES"); s != "" {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		size = n << 30
	}
	w := newWorld(t, nil)
	w.set(web(startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			rw.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			_, _ = io.CopyN(rw, zeros{}, size)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(rw, strconv.FormatInt(n, 10))
	}))))
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(protocol == "HTTP/1.1")
			protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			var both errgroup.Group
			runtime.GC() // what other tests left is no part of it
			began := time.Now()
			both.Go(func() error {
				res, err := transport.RoundTrip(w.request("GET", "web.test", "/"))
				if err != nil {
					return err
				}
				defer res.Body.Close()
				if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size || res.Proto != protocol {
					t.Errorf("%s: %d of %d bytes came: %v", res.Proto, n, size, err)
				}
				return nil
			})
			both.Go(func() error {
				r := w.request("POST", "web.test", "/")
				r.Body, r.ContentLength = io.NopCloser(io.LimitReader(zeros{}, size)), size
				res, err := transport.RoundTrip(r)
				if err != nil {
					return err
				}
				if _, got := text(t, res, nil); got != strconv.FormatInt(size, 10) {
					t.Errorf("%s of %d bytes arrived", got, size)
				}
				return nil
			})
			done := make(chan error, 1)
			go func() { done <- both.Wait() }()
			var most uint64
			for look := time.NewTicker(20 * time.Millisecond); ; {
				select {
				case <-look.C:
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapInuse+m.StackInuse)
					continue
				case err := <-done:
					look.Stop()
					if err != nil {
						t.Fatal(err)
					}
				}
				break
			}
			t.Logf("%d bytes up and down in %s; at most %d MiB in use", size, time.Since(began), most>>20)
			if most > 64<<20 {
				t.Error("that is too much memory")
			}
		})
	}
}

// zeros reads as zeros without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
