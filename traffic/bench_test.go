package traffic_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/table"
)

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// raw requests and answers, so that client and server cost as little as they can.
var (
	rawRequest = []byte("GET / HTTP/1.1\r\nHost: web.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	rawAnswer  = append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"), bytes.Repeat([]byte("Z"), 1024)...)
)

// startRaw is an instance that answers whatever it is asked with the same 1 KB.
func startRaw(b *testing.B) *instance {
	b.Helper()
	i := &instance{id: "raw", addr: freshAddress()}
	i.l = listen(b, netip.AddrPortFrom(i.addr, port).String())
	b.Cleanup(func() { i.l.Close() })
	go func() {
		for {
			c, err := i.l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if _, err := c.Write(rawAnswer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return i
}

// load sends b.N requests over 64 connections.
func load(b *testing.B, address string) {
	b.Helper()
	const connections = 64
	jobs := make(chan struct{}, connections)
	var wg sync.WaitGroup
	for range connections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for range jobs {
				if _, err := c.Write(rawRequest); err != nil {
					b.Error(err)
					return
				}
				// An answer ends with 1024 times Z, and nothing else in it does.
				for z := 0; z < 1024; {
					n, err := c.Read(buf)
					if err != nil {
						b.Error(err)
						return
					}
					z += bytes.Count(buf[:n], []byte("Z"))
				}
			}
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := cpu()
	for range b.N {
		jobs <- struct{}{}
	}
	close(jobs)
	wg.Wait()
	b.ReportMetric(float64(cpu()-used)/float64(b.N)/1000, "cpu-µs/op")
}

// BenchmarkRequest carries a 1 KB answer through the gateway. Client and server are in the figure;
// BenchmarkDirect is what they alone cost, BenchmarkReverseProxy a peer.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b, func(cfg *traffic.Config) { cfg.AccessLog = io.Discard })
	w.set(web(startRaw(b)))
	load(b, w.http)
}

func BenchmarkDirect(b *testing.B) {
	load(b, startRaw(b).l.Addr().String())
}

func BenchmarkReverseProxy(b *testing.B) {
	target, _ := url.Parse("http://" + startRaw(b).l.Addr().String())
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true},
	}
	l := listen(b, "127.0.0.1:0")
	server := &http.Server{Handler: proxy, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	load(b, l.Addr().String())
}

// BenchmarkUpdate changes one service of many: the cost must not depend on how many there are.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := table.New()
			var all []maru.ServiceTraffic
			for i := range n {
				s := web()
				s.Service, s.Routes = shop.Service(fmt.Sprint("s", i)), []maru.Route{{Host: fmt.Sprintf("s%d.test", i)}}
				s.VirtualAddress.V4 = netip.AddrFrom4([4]byte{127, byte(i >> 16), byte(i >> 8), byte(i)})
				s.Endpoints = []maru.Endpoint{{Instance: fmt.Sprint("s", i, "-1"), Ready: true, Addresses: maru.Addresses{V4: netip.AddrFrom4([4]byte{126, byte(i >> 16), byte(i >> 8), byte(i)})}}}
				all = append(all, s)
			}
			if err := t.Update(maru.TrafficUpdate{Version: 1, Full: true, Services: all}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s := all[i%n]
				s.Endpoints = append([]maru.Endpoint(nil), s.Endpoints...)
				s.Endpoints[0].Draining = i%2 == 0
				if err := t.Update(maru.TrafficUpdate{Version: uint64(i + 2), Services: []maru.ServiceTraffic{s}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
