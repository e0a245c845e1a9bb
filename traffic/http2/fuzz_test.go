package http2

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

// FuzzConnection throws frames at a server: it does not panic, and nothing runs on when the connection is gone.
func FuzzConnection(f *testing.F) {
	p := &peer{}
	p.enc = hpack.NewEncoder(&p.head)
	var b bytes.Buffer
	p.Framer = xhttp2.NewFramer(&b, nil)
	p.AllowIllegalWrites = true
	for _, c := range cases {
		b.Reset()
		if c.section != "5.1.2" { // which reads
			func() {
				defer func() { _ = recover() }() // those that read end here
				c.do(p)
			}()
		}
		f.Add(bytes.Clone(b.Bytes()))
	}
	for _, flood := range floods {
		b.Reset()
		for n := range uint32(3) {
			flood(p, n)
		}
		f.Add(bytes.Clone(b.Bytes()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h := new(handler)
		s := NewServer(Config{Handler: h, Idle: time.Minute, Header: time.Minute, HeaderBytes: 4 << 10}, slog.New(slog.NewTextHandler(faults{t}, nil)))
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(Accepted{Conn: server})
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_, _ = io.WriteString(client, xhttp2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		_, _ = client.Write(data)
		client.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it hangs")
		}
		s.Rest()
		if n := h.running.Load(); n != 0 {
			t.Fatalf("%d requests run on", n)
		}
	})
}

// faults fails a test for what is logged as a fault of Maru.
type faults struct{ t *testing.T }

func (f faults) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("level=ERROR")) && !bytes.Contains(p, []byte("as the test wants it")) {
		f.t.Errorf("%s", p)
	}
	return len(p), nil
}

// FuzzRequest takes no request that x/net's server refuses, and none for another one.
func FuzzRequest(f *testing.F) {
	for _, more := range [][]string{
		nil, {"content-length", "0"}, {"cookie", "a=1", "cookie", "b=2"}, {"host", "A.test"}, {"te", "trailers"}, {"te", "gzip"}, {"x-a", " b"},
		{"x\x00", ""}, {"x-a", "ü"}, {"connection", "close"}, {":path", "/b"}, {"content-length", "1"}, {"trailer", "x-a"}, {"", ""},
	} {
		f.Add("GET", "http", "a.test", "/", strings.Join(more, "\n"))
	}
	f.Add("OPTIONS", "https", "a.test:80", "*", "")
	f.Add("CONNECT", "", "a.test:80", "", "")
	f.Add("POST", "http", "[::1]:80", "/a%20b?c#d", "")
	f.Add("G T", "http", "", "//a", "host\na")
	f.Fuzz(func(t *testing.T, method, scheme, authority, path, more string) {
		fields := message.Header{}
		for _, p := range [...][2]string{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}} {
			if p[1] != "" {
				fields.Add(p[0], p[1])
			}
		}
		list := strings.Split(more, "\n")
		for i := 0; i+1 < len(list); i += 2 {
			fields.Add(list[i], list[i+1])
		}
		var a asked
		var r message.Request
		if a.parse(fields, &r) != nil || a.expect != "" || a.length > 0 {
			return
		}
		theirs := theirRequest(t, fields)
		if theirs == nil {
			t.Fatalf("%q is taken, and refused by x/net", fields)
		}
		// Theirs keeps what is no host, and reads a path that begins with two slashes as they do.
		if theirs.Method != r.Method || theirs.Host != r.Host || theirs.RequestURI != r.Target && method != http.MethodConnect {
			t.Fatalf("%s %s %s, and to x/net %s %s %s", r.Method, r.Host, r.Target, theirs.Method, theirs.Host, theirs.RequestURI)
		}
		for _, f := range r.Header {
			if got := strings.Join(theirs.Header.Values(f.Name), ", "); f.Name != "trailer" && !strings.Contains(got, f.Value) {
				t.Fatalf("%s: %q, and to x/net %q", f.Name, f.Value, got)
			}
		}
	})
}

// theirRequest is what x/net's server makes of a header; nil: nothing.
func theirRequest(t *testing.T, fields message.Header) (got *http.Request) {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })
		//lint:ignore SA1019 it is what is compared with
		(&xhttp2.Server{}).ServeConn(server, &xhttp2.ServeConnOpts{Handler: h, BaseConfig: &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}})
	}()
	_ = client.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range fields {
			_ = enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value})
		}
		_, _ = io.WriteString(client, xhttp2.ClientPreface)
		framer := xhttp2.NewFramer(client, nil)
		_ = framer.WriteSettings()
		_ = framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}()
	framer := xhttp2.NewFramer(io.Discard, client)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			break
		}
		if k := f.Header().Type; k == xhttp2.FrameHeaders || k == xhttp2.FrameRSTStream || k == xhttp2.FrameGoAway {
			break
		}
	}
	client.Close()
	<-done
	return got
}

// FuzzEncoder compresses fields as x/net's decoder reads them, whatever the client's table may hold meanwhile.
func FuzzEncoder(f *testing.F) {
	f.Add("Content-Type: text/plain\nX-A: b\nSet-Cookie: c\nX-A: b", uint32(4096), uint8(3))
	f.Add("a: "+strings.Repeat("b", 600)+"\nA: c\nA: c\nA: c", uint32(40), uint8(9))
	f.Add("x: y", uint32(0), uint8(200))
	f.Fuzz(func(t *testing.T, lines string, limit uint32, times uint8) {
		e := newEncoder()
		var got []hpack.HeaderField
		d := hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { got = append(got, f) })
		for n := range int(times) {
			if n%3 == 1 {
				e.setLimit(limit >> (n % 5))
			}
			got = got[:0]
			b := e.status(e.begin(nil), 200+n)
			want := []hpack.HeaderField{{Name: ":status", Value: itoa(200 + n)}}
			for line := range strings.SplitSeq(lines, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				if b = e.field(b, name, value); validField(name, value) {
					name = string(appendLower(nil, name))
					want = append(want, hpack.HeaderField{Name: name, Value: value, Sensitive: isSensitive(name)})
				}
			}
			if _, err := d.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%v, want %v", got, want)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%v, want %v", got[i], want[i])
				}
			}
			if e.size > e.limit {
				t.Fatal("the table is larger than it may be")
			}
		}
	})
}
