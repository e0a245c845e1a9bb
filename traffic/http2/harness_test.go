package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

// handler answers by the request's path.
type handler struct {
	came    atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // at once
}

func (h *handler) Serve(c message.Client, r *message.Request) error {
	h.came.Add(1)
	n := h.running.Add(1)
	defer h.running.Add(-1)
	for most := h.most.Load(); n > most && !h.most.CompareAndSwap(most, n); most = h.most.Load() {
		continue
	}
	kind, rest, _ := strings.Cut(r.Path[1:], "/")
	switch kind {
	case "slow": // until the client goes
		<-c.Context().Done()
		return c.Context().Err()
	case "stubborn": // whatever the client does
		time.Sleep(50 * time.Millisecond)
	case "early": // without the body
		return whole(c, 403, "no")
	case "panic":
		panic("as the test wants it")
	case "short":
		return errors.Join(c.Begin(&message.Response{Status: 200, Length: 10}), c.Write([]byte("abc")), c.End(nil))
	case "big": // of that many bytes
		n, _ := strconv.Atoi(rest)
		return big(c, n)
	case "hint":
		if err := c.Interim(103, message.Header{{Name: "Link", Value: "</a>"}}); err != nil {
			return err
		}
	case "echo":
		return echo(c, r)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return err
		}
	}
	return whole(c, 200, "hello"+string(body))
}

func whole(c message.Client, status int, body string) error {
	if err := c.Begin(&message.Response{Status: status, Length: int64(len(body)), Header: message.Header{{Name: "Content-Type", Value: "text/plain"}}}); err != nil {
		return err
	}
	return errors.Join(c.Write([]byte(body)), c.End(nil))
}

// pattern is what large bodies are made of.
var pattern = bytes.Repeat([]byte("0123456789abcdef"), 4<<10)

func big(c message.Client, n int) error {
	if err := c.Begin(&message.Response{Status: 200, Length: int64(n)}); err != nil {
		return err
	}
	for n > 0 {
		k := min(n, len(pattern))
		if err := c.Write(pattern[:k]); err != nil {
			return err
		}
		n -= k
	}
	return c.End(nil)
}

// echo sends back what comes, as it comes, and the trailer.
func echo(c message.Client, r *message.Request) error {
	if err := errors.Join(c.Begin(&message.Response{Status: 200, Length: -1}), c.Flush()); err != nil {
		return err
	}
	if r.Body == nil {
		return c.End(nil)
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Body.Read(buf)
		if werr := errors.Join(c.Write(buf[:n]), c.Flush()); werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, io.EOF):
			return c.End(r.Body.Trailer())
		case err != nil:
			return err
		}
	}
}

// running is a server with what leads to it.
type running struct {
	*Server
	*handler
	t testing.TB
	l net.Listener
}

func start(t testing.TB, change func(*Config)) *running {
	t.Helper()
	r := &running{handler: new(handler), t: t}
	cfg := Config{Handler: r.handler, Idle: time.Minute, Header: time.Minute, HeaderBytes: 16 << 10}
	if change != nil {
		change(&cfg)
	}
	r.Server = NewServer(cfg, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.l = l
	var conns sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { r.Server.Serve(Accepted{Conn: c}) })
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-accepting
		r.Server.Close()
		conns.Wait() // which has every handler ended
		r.Rest()
		if n := r.handler.running.Load(); n != 0 {
			t.Errorf("%d requests run on", n)
		}
	})
	return r
}

// peer is a client that says whatever a test wants.
type peer struct {
	*xhttp2.Framer
	t    testing.TB
	conn *net.TCPConn
	enc  *hpack.Encoder
	head bytes.Buffer
}

// raw connects, and says nothing.
func (r *running) raw() *peer {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	p := &peer{t: r.t, conn: conn.(*net.TCPConn), Framer: xhttp2.NewFramer(conn, conn)}
	p.AllowIllegalWrites = true
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.SetMaxReadFrameSize(1<<24 - 1)
	p.enc = hpack.NewEncoder(&p.head)
	return p
}

// dial connects as a client does, with its settings.
func (r *running) dial(settings ...xhttp2.Setting) *peer {
	r.t.Helper()
	p := r.raw()
	p.write(xhttp2.ClientPreface)
	p.must(p.WriteSettings(settings...))
	return p
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) write(s string) {
	p.t.Helper()
	_, err := io.WriteString(p.conn, s)
	p.must(err)
}

// frame writes one that the framer would not; the server may have gone by then.
func (p *peer) frame(kind xhttp2.FrameType, flags xhttp2.Flags, stream uint32, payload string) {
	_ = p.WriteRawFrame(kind, flags, stream, []byte(payload))
}

// block gives the fields, names and values in turn, compressed.
func (p *peer) block(fields ...string) string {
	p.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.head.String()
}

func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "a.test", ":path", path}, more...)
}

const (
	endStream  = xhttp2.FlagHeadersEndStream
	endHeaders = xhttp2.FlagHeadersEndHeaders
)

// get asks for a path on a stream.
func (p *peer) get(stream uint32, path string, more ...string) {
	p.frame(xhttp2.FrameHeaders, endStream|endHeaders, stream, p.block(request("GET", path, more...)...))
}

// post begins a request with a body.
func (p *peer) post(stream uint32, path string, more ...string) {
	p.frame(xhttp2.FrameHeaders, endHeaders, stream, p.block(request("POST", path, more...)...))
}

// said is what the server said of a stream.
type said struct {
	status  string
	header  map[string]string
	body    strings.Builder
	trailer map[string]string
	end     string // "", "END", "RESET code"
}

// next reads until a stream has ended, returning windows meanwhile, or the connection has.
func (p *peer) next(stream uint32) *said {
	p.t.Helper()
	s := &said{}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			s.end = "CLOSED"
			return s
		}
		switch f := f.(type) {
		case *xhttp2.GoAwayFrame:
			if f.ErrCode != xhttp2.ErrCodeNo {
				s.end = "GOAWAY " + f.ErrCode.String()
				return s
			}
		case *xhttp2.RSTStreamFrame:
			if f.StreamID == stream {
				s.end = "RESET " + f.ErrCode.String()
				return s
			}
		case *xhttp2.MetaHeadersFrame:
			if f.StreamID == stream && s.take(f) {
				s.end = "END"
				return s
			}
		case *xhttp2.DataFrame:
			if n := len(f.Data()); n > 0 {
				_ = p.WriteWindowUpdate(0, uint32(n))
				if !f.StreamEnded() {
					_ = p.WriteWindowUpdate(f.StreamID, uint32(n))
				}
			}
			if f.StreamID == stream {
				s.body.Write(f.Data())
				if f.StreamEnded() {
					s.end = "END"
					return s
				}
			}
		}
	}
}

// take takes a header or trailer, and tells whether it was the last of the stream.
func (s *said) take(f *xhttp2.MetaHeadersFrame) bool {
	list := map[string]string{}
	for _, field := range f.Fields {
		list[field.Name] += field.Value
	}
	switch {
	case s.status == "" || s.status[0] == '1':
		s.status, s.header = f.PseudoValue("status"), list
	default:
		s.trailer = list
	}
	return f.StreamEnded()
}

// verdict is what came of a stream, in a word.
func (p *peer) verdict(stream uint32) string {
	p.t.Helper()
	s := p.next(stream)
	if s.end == "END" {
		return s.status
	}
	return s.end
}

// well tells that the connection is still served.
func (p *peer) well(stream uint32) {
	p.t.Helper()
	p.get(stream, "/")
	if got := p.verdict(stream); got != "200" {
		p.t.Errorf("the connection is not served any more: %s", got)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 10 s: %s", what)
		}
	}
}

func itoa(n int) string { return fmt.Sprint(n) }
