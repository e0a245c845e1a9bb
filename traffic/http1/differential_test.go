package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/marucloud/maru/traffic/message"
)

// seeds are messages that fuzzing starts from.
var seeds = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /a%2Fb?c=%zz HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nConnection: close, x\r\n\r\nhello",
	"PUT http://b.test/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
	"OPTIONS * HTTP/1.0\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
	"GET / HTTP/1.1\nHost: a\n\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw",
}

func readAll(r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	return string(b), err
}

// FuzzRequest: what is taken for a request here is one to net/http too, and means the same.
func FuzzRequest(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := buffer{src: bytes.NewReader(data)}
		header, err := in.section(32<<10, nil)
		if err != nil {
			return
		}
		var r message.Request
		frame, err := parseRequest(header, &r)
		if err != nil {
			return
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", header, err)
		}
		switch {
		case r.Method != theirs.Method:
			t.Fatalf("method %q, not %q", r.Method, theirs.Method)
		case r.Method != "CONNECT" && r.Path != theirs.URL.Path && (theirs.URL.Path != "" || r.Path != "/" && r.Path != "*"):
			t.Fatalf("path %q, not %q", r.Path, theirs.URL.Path)
		case r.Method != "CONNECT" && r.Host != theirs.Host:
			t.Fatalf("host %q, not %q", r.Host, theirs.Host)
		case r.Length != theirs.ContentLength:
			t.Fatalf("length %d, not %d", r.Length, theirs.ContentLength)
		}
		compareHeader(t, r.Header, theirs.Header)
		compareBody(t, &in, len(header), r.Length, frame.chunked, theirs.Body)
	})
}

// FuzzResponse: what is taken for an answer here is one to net/http too, and means the same.
func FuzzResponse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		in := buffer{src: bytes.NewReader(data)}
		header, err := in.section(32<<10, nil)
		if err != nil {
			return
		}
		var r message.Response
		frame, err := parseResponse(header, method, &r)
		if err != nil {
			return
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", header, err)
		}
		if r.Status != theirs.StatusCode {
			t.Fatalf("status %d, not %d", r.Status, theirs.StatusCode)
		}
		compareHeader(t, r.Header, theirs.Header)
		if r.Status == 101 {
			return
		}
		length := frame.length
		if !hasBody(method, r.Status) {
			length = 0
		}
		if theirs.Close && !frame.close {
			t.Fatal("the connection is used again, and net/http would not")
		}
		compareBody(t, &in, len(header), length, frame.chunked, theirs.Body)
	})
}

func compareHeader(t *testing.T, ours message.Header, theirs http.Header) {
	t.Helper()
	got := http.Header{}
	for _, f := range ours {
		got.Add(f.Name, f.Value)
	}
	for k, v := range got {
		if k == "Trailer" || k == "Pragma" || k == "Connection" { // net/http takes these out, or adds to them
			continue
		}
		if strings.Join(v, "\n") != strings.Join(theirs[k], "\n") {
			t.Fatalf("%s: %q, not %q", k, v, theirs[k])
		}
	}
}

func compareBody(t *testing.T, in *buffer, header int, length int64, chunked bool, theirs io.Reader) {
	t.Helper()
	in.r += header
	in.floor = in.r
	var b body
	b.reset(in, length, chunked)
	got, err := readAll(&b)
	want, theirErr := readAll(theirs)
	if err == nil && theirErr != nil {
		t.Fatalf("net/http refuses the body %q: %v", got, theirErr)
	}
	if err == nil && got != want {
		t.Fatalf("body %q, not %q", got, want)
	}
}

// FuzzChunks: however a body is cut into chunks and into reads, it is the same.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("hello world"), uint8(1), uint8(3), uint8(1))
	f.Add(bytes.Repeat([]byte("x"), 100), uint8(255), uint8(200), uint8(255))
	f.Fuzz(func(t *testing.T, data []byte, times, chunk, read uint8) {
		data = bytes.Repeat(data[:min(len(data), 200)], int(times))
		wire := []byte{}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+int(chunk)*61)
			wire = append(append(appendChunkSize(wire, n), rest[:n]...), "\r\n"...)
			rest = rest[n:]
		}
		wire = appendTrailer(wire, message.Header{{Name: "X-Sum", Value: "1"}})
		for _, next := range []bool{false, true} {
			in := buffer{src: &dribble{wire, 1 + int(read)*37}}
			var b body
			b.reset(&in, -1, true)
			var got []byte
			var err error
			if next {
				for err == nil {
					var p []byte
					p, err = b.Next()
					got = append(got, p...)
				}
				if err == io.EOF { //nolint:errorlint // as Next gives it
					err = nil
				}
			} else {
				got, err = io.ReadAll(&b)
			}
			if err != nil || !bytes.Equal(got, data) || b.Trailer().Get("x-sum") != "1" {
				t.Fatalf("%d bytes of %d, %v, trailer %v", len(got), len(data), err, b.Trailer())
			}
		}
	})
}

// dribble gives a few bytes at a time.
type dribble struct {
	p []byte
	n int
}

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), d.n)], d.p)
	d.p = d.p[n:]
	return n, nil
}
