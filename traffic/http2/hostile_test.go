package http2

import (
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// floods make work and ask for nothing. Each is done again and again; n counts.
var floods = map[string]func(p *peer, n uint32){
	"pings":       func(p *peer, _ uint32) { p.frame(xhttp2.FramePing, 0, 0, "12345678") },
	"pings' acks": func(p *peer, _ uint32) { p.frame(xhttp2.FramePing, 1, 0, "12345678") },
	"settings":    func(p *peer, _ uint32) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x04\x00\x00\xff\xff") },
	"no settings": func(p *peer, _ uint32) { p.frame(xhttp2.FrameSettings, 0, 0, "") },
	"priorities":  func(p *peer, n uint32) { p.frame(xhttp2.FramePriority, 0, 2*n+1, "\x00\x00\x00\x00\xff") },
	"unknown":     func(p *peer, _ uint32) { p.frame(0x42, 0, 0, "") },
	"windows":     func(p *peer, _ uint32) { p.frame(xhttp2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x01") },
	"rapid reset": func(p *peer, n uint32) {
		p.get(2*n+1, "/slow")
		p.frame(xhttp2.FrameRSTStream, 0, 2*n+1, "\x00\x00\x00\x08")
	},
	"resets":     func(p *peer, n uint32) { once(p, n, "/"); p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08") },
	"empty data": func(p *peer, n uint32) { once(p, n, "/slow"); p.frame(xhttp2.FrameData, 0, 1, "") },
	"padding":    func(p *peer, n uint32) { once(p, n, "/slow"); p.frame(xhttp2.FrameData, 8, 1, "\x02\x00\x00") },
	"late data":  func(p *peer, n uint32) { once(p, n, "/early"); p.frame(xhttp2.FrameData, 0, 1, "a") },
	"dribble": func(p *peer, n uint32) {
		if n == 0 {
			p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00")
			p.get(1, "/big/1000000")
		}
		p.frame(xhttp2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x01")
	},
	"refused":      func(p *peer, n uint32) { p.get(2*n+1, "/stubborn") },
	"no more":      func(p *peer, n uint32) { p.frame(xhttp2.FrameHeaders, 5, 2*n+1, p.block(":method", "GET")) },
	"continuation": func(p *peer, n uint32) { open1(p, n); p.frame(xhttp2.FrameContinuation, 0, 1, "") },
	"long header": func(p *peer, n uint32) {
		open1(p, n)
		p.frame(xhttp2.FrameContinuation, 0, 1, p.block("x-a", strings.Repeat("a", 4000)))
	},
	"long field": func(p *peer, n uint32) {
		open1(p, n)
		p.frame(xhttp2.FrameContinuation, 0, 1, "\x00\x01a\x7f\xff\xff\x03")
	},
	// What has the server reset a stream that runs on (CVE-2025-8671).
	"made: window of nothing": func(p *peer, n uint32) {
		p.get(2*n+1, "/slow")
		p.frame(xhttp2.FrameWindowUpdate, 0, 2*n+1, "\x00\x00\x00\x00")
	},
	"made: window too large": func(p *peer, n uint32) {
		p.get(2*n+1, "/slow")
		p.frame(xhttp2.FrameWindowUpdate, 0, 2*n+1, "\x7f\xff\xff\xff")
	},
	"made: priority": func(p *peer, n uint32) { p.get(2*n+1, "/slow"); p.frame(xhttp2.FramePriority, 0, 2*n+1, "\x00") },
	"made: closed":   func(p *peer, n uint32) { p.get(2*n+1, "/slow"); p.frame(xhttp2.FrameData, 1, 2*n+1, "a") },
	"made: header":   func(p *peer, n uint32) { p.get(2*n+1, "/slow"); p.get(2*n+1, "/slow") },
	"made: length": func(p *peer, n uint32) {
		p.post(2*n+1, "/", "content-length", "1")
		p.frame(xhttp2.FrameData, 1, 2*n+1, "ab")
	},
}

func once(p *peer, n uint32, path string) {
	if n == 0 {
		p.post(1, path)
	}
}

func open1(p *peer, n uint32) {
	if n == 0 {
		p.frame(xhttp2.FrameHeaders, 1, 1, p.block(request("GET", "/")...))
	}
}

// TestFloods ends each of them with ENHANCE_YOUR_CALM, whether the client reads or not, with no more requests at
// once than it may have; neighbours are served meanwhile.
func TestFloods(t *testing.T) {
	r := start(t, nil)
	neighbour := r.dial()
	stream := uint32(1)
	for name, flood := range floods {
		p := r.dial()
		ended := make(chan string, 1)
		go func() { // what is said of streams is of no interest here
			for {
				f, err := p.ReadFrame()
				if err != nil {
					ended <- "CLOSED"
					return
				}
				if g, ok := f.(*xhttp2.GoAwayFrame); ok && g.ErrCode != xhttp2.ErrCodeNo {
					ended <- g.ErrCode.String()
					return
				}
			}
		}()
		got := ""
		for n := uint32(0); n < 200000 && got == ""; n++ {
			flood(p, n)
			select {
			case got = <-ended:
			default:
			}
		}
		if got == "" {
			got = <-ended
		}
		if got != "ENHANCE_YOUR_CALM" {
			t.Errorf("%s: %s", name, got)
		}
		p.conn.Close()
		neighbour.well(stream)
		stream += 2
		eventually(t, "nothing runs on", func() bool { return r.handler.running.Load() == 0 })
	}
	if most := r.most.Load(); most > streams+1 {
		t.Errorf("%d requests at once", most)
	}
}

// TestUnreadFloods holds nothing for a client that reads none of what it asks for.
func TestUnreadFloods(t *testing.T) {
	r := start(t, nil)
	for _, name := range []string{"pings", "settings", "made: closed"} {
		p := r.dial()
		p.must(p.conn.SetReadBuffer(1 << 10))
		_ = p.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		for n := uint32(0); ; n++ {
			before := p.WriteData(0, false, nil) // to see the end
			floods[name](p, n)
			if before != nil {
				break
			}
			if n > 1<<20 {
				t.Fatalf("%s: it is taken", name)
			}
		}
		p.conn.Close()
	}
	r.dial().well(1)
}

// TestLegitimateWork is not taken for a flood: what a client asks for earns what it says meanwhile.
func TestLegitimateWork(t *testing.T) {
	p := start(t, nil).dial()
	for id := uint32(1); id < 6000; id += 2 {
		p.get(id, "/")
		p.must(p.WritePing(false, [8]byte{}))
		if s := p.next(id); s.status != "200" { // which returns windows
			t.Fatalf("%d: %+v", id, s)
		}
	}
}

// TestResetRunsOn counts requests whose streams were reset as long as they run (CVE-2023-44487).
func TestResetRunsOn(t *testing.T) {
	r := start(t, nil)
	p := r.dial()
	refused := 0
	for id := uint32(1); id < 2*300; id += 2 {
		p.get(id, "/stubborn")
		if id%50 == 1 {
			eventually(t, "they begin", func() bool { return r.handler.came.Load() > int64(id/50) })
		}
		p.frame(xhttp2.FrameRSTStream, 0, id, "\x00\x00\x00\x08")
	}
	p.get(601, "/")
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if rst, ok := f.(*xhttp2.RSTStreamFrame); ok && rst.ErrCode == xhttp2.ErrCodeRefusedStream {
			refused++
		}
		if h, ok := f.(*xhttp2.MetaHeadersFrame); ok && h.StreamID == 601 || refused > 0 {
			break
		}
	}
	if most := r.most.Load(); most > streams {
		t.Errorf("%d at once", most)
	}
}

// TestSlowRead ends a stream whose client gives no window for it, and a connection that it does not read.
func TestSlowRead(t *testing.T) {
	r := start(t, func(cfg *Config) { cfg.Idle = 200 * time.Millisecond })
	p := r.dial(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	p.get(1, "/big/100")
	if got := p.verdict(1); got != "RESET CANCEL" {
		t.Error(got)
	}
	p.post(3, "/", "content-length", "10")
	if got := p.verdict(3); got != "RESET CANCEL" {
		t.Error(got)
	}
	deaf := r.dial(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
	deaf.must(deaf.conn.SetReadBuffer(1 << 10))
	deaf.must(deaf.WriteWindowUpdate(0, 1<<30))
	deaf.get(1, "/big/100000000")
	eventually(t, "it runs", func() bool { return r.handler.running.Load() > 0 })
	eventually(t, "it is ended", func() bool { return r.handler.running.Load() == 0 })
}

// TestSlowHeader ends a connection whose header does not come.
func TestSlowHeader(t *testing.T) {
	r := start(t, func(cfg *Config) { cfg.Header = 100 * time.Millisecond })
	for _, begin := range []func(p *peer){
		func(p *peer) { p.frame(xhttp2.FrameHeaders, 0, 1, "\x82") },
		func(p *peer) { p.write("\x00\x00\x20\x01\x05\x00\x00\x00\x01\x82") },
	} {
		p := r.dial()
		begin(p)
		if got := p.verdict(1); got != "GOAWAY ENHANCE_YOUR_CALM" {
			t.Error(got)
		}
	}
	p := r.raw()
	p.write("PRI * HT")
	if got := p.verdict(1); got != "GOAWAY ENHANCE_YOUR_CALM" {
		t.Error(got)
	}
}

// TestLargeHeaders answers what is larger than is taken, and goes on: in size, in number, and only while it is
// compressed (CVE-2016-6581).
func TestLargeHeaders(t *testing.T) {
	r := start(t, nil)
	many := []string{}
	for range 300 {
		many = append(many, "x-a", "")
	}
	for name, block := range map[string]func(p *peer) string{
		"size": func(p *peer) string {
			return p.block(request("GET", "/", "x-a", strings.Repeat("/", 15<<10), "x-b", strings.Repeat("/", 2<<10))...)
		},
		"number": func(p *peer) string { return p.block(request("GET", "/", many...)...) },
		"compressed": func(p *peer) string {
			return p.block(request("GET", "/", "x-a", strings.Repeat("a", 3900))...) + strings.Repeat("\xbe", 15000)
		},
	} {
		p := r.dial()
		b := block(p)
		p.frame(xhttp2.FrameHeaders, 1, 1, b[:10])
		for b = b[10:]; len(b) > 16000; b = b[16000:] {
			p.frame(xhttp2.FrameContinuation, 0, 1, b[:16000])
		}
		p.frame(xhttp2.FrameContinuation, 4, 1, b)
		if got := p.verdict(1); got != "431" {
			t.Errorf("%s: %s", name, got)
		}
		p.well(3)
	}
}

// TestClientLeaves has requests end when their stream is reset, or their connection is gone.
func TestClientLeaves(t *testing.T) {
	r := start(t, nil)
	p := r.dial()
	p.get(1, "/slow")
	p.post(3, "/echo")
	eventually(t, "they run", func() bool { return r.handler.running.Load() == 2 })
	p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08")
	eventually(t, "one has ended", func() bool { return r.handler.running.Load() == 1 })
	p.conn.Close()
	eventually(t, "all have ended", func() bool { return r.handler.running.Load() == 0 })
}

// TestWorkersEnd keeps no goroutine that nothing needs.
func TestWorkersEnd(t *testing.T) {
	r := start(t, nil)
	r.dial().well(1)
	w := &r.Server.workers
	eventually(t, "one waits", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.idle) > 0 })
	w.trim() // what was needed since the last time is kept
	w.trim()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.idle) != 0 || w.timer != nil {
		t.Error(len(w.idle))
	}
}
