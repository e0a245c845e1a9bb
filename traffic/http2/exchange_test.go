package http2

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

// TestExchange is the usual request, several of them at once, and what their bodies are like.
func TestExchange(t *testing.T) {
	r := start(t, nil)
	p := r.dial()
	for id := uint32(1); id < 9; id += 2 {
		p.get(id, "/")
	}
	for id := uint32(1); id < 3; id += 2 {
		if s := p.next(id); s.status != "200" || s.body.String() != "hello" || s.header["content-length"] != "5" || s.header["date"] == "" || s.header["content-type"] != "text/plain" {
			t.Fatalf("%+v", s)
		}
	}
	p.post(9, "/", "content-length", "6")
	p.must(p.WriteData(9, false, []byte(" wor")))
	p.must(p.WriteData(9, true, []byte("ld")))
	if s := p.next(9); s.body.String() != "hello world" {
		t.Fatalf("%+v", s)
	}
	p.frame(xhttp2.FrameHeaders, endStream|endHeaders, 11, p.block(request("HEAD", "/")...))
	if s := p.next(11); s.status != "200" || s.body.Len() > 0 || s.header["content-length"] != "5" {
		t.Fatalf("%+v", s)
	}
	p.get(13, "/panic")
	if got := p.verdict(13); got != "RESET INTERNAL_ERROR" {
		t.Fatal(got)
	}
	p.get(15, "/short")
	if got := p.verdict(15); got != "RESET INTERNAL_ERROR" {
		t.Fatal(got)
	}
	p.well(17)
}

// TestTrailers carries trailers both ways, and each line before the next one is sent.
func TestTrailers(t *testing.T) {
	p := start(t, nil).dial()
	p.post(1, "/echo", "trailer", "x-sum")
	for range 3 {
		p.must(p.WriteData(1, false, []byte("line")))
		for got := ""; got != "line"; {
			f, err := p.ReadFrame()
			p.must(err)
			if d, ok := f.(*xhttp2.DataFrame); ok {
				got += string(d.Data())
			}
		}
	}
	p.frame(xhttp2.FrameHeaders, endStream|endHeaders, 1, p.block("x-sum", "3", "content-length", "7"))
	s := p.next(1)
	// Its header was read above, so that this is the first here.
	if s.end != "END" || s.header["x-sum"] != "3" || s.header["content-length"] != "" {
		t.Fatalf("%+v", s)
	}
}

// TestContinue asks for a body that waits to be asked for, and passes other 1xx answers on.
func TestContinue(t *testing.T) {
	p := start(t, nil).dial()
	p.post(1, "/", "expect", "100-continue")
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
			if h.PseudoValue("status") != "100" || h.StreamEnded() {
				t.Fatal(h)
			}
			break
		}
	}
	p.must(p.WriteData(1, true, []byte(" you")))
	if s := p.next(1); s.status != "200" || s.body.String() != "hello you" {
		t.Fatalf("%+v", s)
	}
	p.post(3, "/early", "expect", "100-continue")
	if s := p.next(3); s.status != "403" {
		t.Fatalf("%+v", s)
	}
	p.post(5, "/", "expect", "tea")
	if s := p.next(5); s.status != "417" {
		t.Fatalf("%+v", s)
	}
	p.get(7, "/hint")
	f, err := p.ReadFrame()
	for ; err == nil; f, err = p.ReadFrame() {
		if h, ok := f.(*xhttp2.MetaHeadersFrame); ok && h.StreamID == 7 {
			if h.PseudoValue("status") != "103" {
				t.Fatal(h)
			}
			break
		}
	}
	p.must(err)
	if s := p.next(7); s.status != "200" || s.header["link"] != "" {
		t.Fatalf("%+v", s)
	}
}

// TestEarlyAnswer tells a client that nobody wants the rest of its body (RFC 9113, 8.1).
func TestEarlyAnswer(t *testing.T) {
	p := start(t, nil).dial()
	p.post(1, "/early")
	if s := p.next(1); s.status != "403" || s.end != "END" {
		t.Fatalf("%+v", s)
	}
	if got := p.verdict(1); got != "RESET NO_ERROR" {
		t.Fatal(got)
	}
	for range 20 { // what it sent before it knew is the connection's window again
		p.must(p.WriteData(1, false, make([]byte, 16<<10)))
	}
	for f, err := p.ReadFrame(); ; f, err = p.ReadFrame() {
		p.must(err)
		if _, ok := f.(*xhttp2.WindowUpdateFrame); ok {
			break
		}
	}
	p.must(p.WriteData(1, true, nil))
	p.well(3)
}

// TestFlowControl sends no more than the client's windows let it, and goes on when they open.
func TestFlowControl(t *testing.T) {
	p := start(t, nil).dial(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 10})
	p.get(1, "/big/30")
	data := func(want int) (ended bool) {
		t.Helper()
		for got := 0; got < want; {
			f, err := p.ReadFrame()
			p.must(err)
			if d, ok := f.(*xhttp2.DataFrame); ok {
				got += len(d.Data())
				if got > want {
					t.Fatalf("%d bytes for a window of %d", got, want)
				}
				ended = d.StreamEnded()
			}
		}
		return ended
	}
	data(10)
	p.must(p.WriteWindowUpdate(1, 3))
	data(3)
	p.must(p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 2})) // eight less than nothing
	p.must(p.WriteWindowUpdate(1, 8))
	p.must(p.WritePing(false, [8]byte{1}))
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if _, ok := f.(*xhttp2.DataFrame); ok {
			t.Fatal("data without a window")
		}
		if ping, ok := f.(*xhttp2.PingFrame); ok && ping.IsAck() {
			break
		}
	}
	p.must(p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 100}))
	if !data(17) {
		if s := p.next(1); s.end != "END" || s.body.Len() > 0 {
			t.Fatalf("%+v", s)
		}
	}
}

// TestLargeBodies carries more than any window, both ways at once, on several streams.
func TestLargeBodies(t *testing.T) {
	p := start(t, nil).dial()
	const n = 3<<20 + 17
	p.get(1, "/big/"+itoa(n))
	p.get(3, "/big/"+itoa(n))
	came := map[uint32]int{}
	for ended := 0; ended < 2; {
		f, err := p.ReadFrame()
		p.must(err)
		if d, ok := f.(*xhttp2.DataFrame); ok {
			n := len(d.Data())
			came[d.StreamID] += n
			if d.StreamEnded() {
				ended++
			}
			if n > 0 {
				p.must(p.WriteWindowUpdate(0, uint32(n)))
				p.must(p.WriteWindowUpdate(d.StreamID, uint32(n)))
			}
		}
	}
	if came[1] != n || came[3] != n {
		t.Fatal(came)
	}
	p.post(5, "/echo")
	body := strings.Repeat("0123456789", 200<<10)
	windows := make(chan int, 1000)
	go func() {
		window, of := 512<<10, 0 // the stream's is the smaller one
		for left := body; left != ""; {
			for window == 0 {
				window += <-windows
			}
			k := min(len(left), window, 16000)
			if p.WriteData(5, k == len(left), []byte(left[:k])) != nil {
				return
			}
			left, window, of = left[k:], window-k, of+k
		}
	}()
	var back strings.Builder
	for ended := false; !ended; {
		f, err := p.ReadFrame()
		p.must(err)
		switch f := f.(type) {
		case *xhttp2.WindowUpdateFrame:
			if f.StreamID == 5 {
				windows <- int(f.Increment)
			}
		case *xhttp2.DataFrame:
			back.Write(f.Data())
			ended = f.StreamEnded()
			if n := len(f.Data()); n > 0 {
				frames := appendWindowUpdate(nil, 0, n)
				if !ended {
					frames = appendWindowUpdate(frames, 5, n)
				}
				_, err := p.conn.Write(frames)
				p.must(err)
			}
		}
	}
	if back.String() != body {
		t.Fatalf("%d bytes came back", back.Len())
	}
}

// TestCompressionTable shrinks and widens the client's table between answers (RFC 7541, 4.2).
func TestCompressionTable(t *testing.T) {
	r := start(t, nil)
	p := r.dial(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 100})
	p.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(100)
	for id := uint32(1); id < 20; id += 2 {
		size := []uint32{100, 0, 4096, 60}[id/2%4]
		p.must(p.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: size}))
		p.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(size)
		p.get(id, "/")
		if s := p.next(id); s.end != "END" || s.header["content-type"] != "text/plain" {
			t.Fatalf("%d: %+v", id, s)
		}
	}
}

// TestDepart goes in two steps: what a client sent before it knew is answered, and then the connection ends.
func TestDepart(t *testing.T) {
	r := start(t, nil)
	p := r.dial()
	p.post(1, "/echo")
	p.well(3)
	r.Drain()
	r.Depart()
	var last []uint32
	for len(last) < 2 {
		f, err := p.ReadFrame()
		p.must(err)
		switch f := f.(type) {
		case *xhttp2.GoAwayFrame:
			if f.ErrCode != xhttp2.ErrCodeNo {
				t.Fatal(f)
			}
			last = append(last, f.LastStreamID)
		case *xhttp2.PingFrame:
			p.get(5, "/") // which it had begun
			p.must(p.WritePing(true, f.Data))
		}
	}
	if last[0] != lastStream || last[1] != 5 {
		t.Fatal(last)
	}
	p.get(7, "/") // which it must not send any more
	p.must(p.WriteData(1, true, []byte("bye")))
	if s := p.next(1); s.end != "END" || s.body.String() != "bye" {
		t.Fatalf("%+v", s)
	}
	if got := p.next(7); got.end != "CLOSED" || got.status != "" {
		t.Fatalf("%+v", got)
	}
	if n := r.came.Load(); n != 3 {
		t.Errorf("%d came", n)
	}
}

// TestIdleEnds ends what is idle, says so before, and keeps what is busy.
func TestIdleEnds(t *testing.T) {
	r := start(t, func(cfg *Config) { cfg.Idle = 100 * time.Millisecond })
	idle, busy := r.dial(), r.dial()
	busy.get(1, "/slow")
	idle.well(1)
	f, err := idle.ReadFrame()
	for ; err == nil; f, err = idle.ReadFrame() {
		if g, ok := f.(*xhttp2.GoAwayFrame); ok && g.ErrCode == xhttp2.ErrCodeNo && g.LastStreamID == 1 {
			break
		}
	}
	idle.must(err)
	busy.well(3)
}

// TestSettingsFirst begins with settings, among them that of RFC 8441, and acknowledges the client's.
func TestSettingsFirst(t *testing.T) {
	p := start(t, nil).dial()
	f, err := p.ReadFrame()
	p.must(err)
	s, ok := f.(*xhttp2.SettingsFrame)
	if !ok {
		t.Fatal(f)
	}
	for id, want := range map[xhttp2.SettingID]uint32{
		xhttp2.SettingMaxConcurrentStreams: 250, xhttp2.SettingInitialWindowSize: 512 << 10, xhttp2.SettingEnableConnectProtocol: 1,
	} {
		if v, _ := s.Value(id); v != want {
			t.Errorf("%v is %d", id, v)
		}
	}
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if s, ok := f.(*xhttp2.SettingsFrame); ok && s.IsAck() {
			return
		}
	}
}

// TestLargeAnswerHeader is sent in several frames (RFC 9113, 6.10).
func TestLargeAnswerHeader(t *testing.T) {
	b := continued(nil, append(appendHead(nil, frame{kind: frameHeaders, flags: flagEndHeaders | flagEndStream, stream: 7}), make([]byte, 40<<10)...))
	var kinds, flags []byte
	sum := 0
	for len(b) > 0 {
		f := parseHead(b)
		kinds, flags, sum = append(kinds, f.kind), append(flags, f.flags), sum+f.length
		if f.stream != 7 || binary.BigEndian.Uint32(b[5:]) != 7 {
			t.Fatal(f)
		}
		b = b[headSize+f.length:]
	}
	if string(kinds) != "\x01\x09\x09" || string(flags) != "\x01\x00\x04" || sum != 40<<10 {
		t.Fatal(kinds, flags, sum)
	}
}

// TestCookies makes one field of those that a client sends one by one (RFC 9113, 8.2.3).
func TestCookies(t *testing.T) {
	var a asked
	var r message.Request
	fields := message.Header{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: "/"},
		{Name: "cookie", Value: "a=1"}, {Name: "x-b", Value: "2"}, {Name: "cookie", Value: "c=3"},
	}
	if err := a.parse(fields, &r); err != nil {
		t.Fatal(err)
	}
	if want := (message.Header{{Name: "cookie", Value: "a=1; c=3"}, {Name: "x-b", Value: "2"}}); !slices.Equal(r.Header, want) {
		t.Error(r.Header)
	}
}

// TestSecretsAreNotKept sends what is secret so that nobody on the way keeps it (RFC 7541, 7.1.3), and what
// repeats from its third time on as one byte.
func TestSecretsAreNotKept(t *testing.T) {
	e := newEncoder()
	var sensitive int
	d := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) {
		if f.Sensitive {
			sensitive++
		}
	})
	for range 3 {
		_, err := d.Write(e.field(nil, "Set-Cookie", "session=secret"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if sensitive != 3 || len(e.kept) != 0 {
		t.Error(sensitive, e.kept)
	}
	for want := 3; want > 0; want-- {
		if n := len(e.field(nil, "X-A", "b")); (n == 1) != (want == 1) {
			t.Errorf("%d bytes", n)
		}
	}
}
