package http2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

// fixed answers with 1 KB.
type fixed struct{}

var (
	kilobyte    = make([]byte, 1<<10)
	fixedAnswer = message.Response{Status: 200, Length: 1 << 10, Header: message.Header{{Name: "Content-Type", Value: "text/plain"}, {Name: "X-A", Value: "b"}}}
)

func (fixed) Serve(c message.Client, _ *message.Request) error {
	return errors.Join(c.Begin(&fixedAnswer), c.Write(kilobyte), c.End(nil))
}

// BenchmarkRequest has four requests answered at once, as often as it takes.
func BenchmarkRequest(b *testing.B) {
	r := start(b, func(cfg *Config) { cfg.Handler = fixed{} })
	conn, err := net.Dial("tcp", r.l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	head := func(id uint32, to []byte) []byte {
		block.Reset()
		for _, f := range [...]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.test"}, {Name: ":path", Value: "/"}, {Name: "user-agent", Value: "bench"}} {
			_ = enc.WriteField(f)
		}
		to = appendHead(to, frame{length: block.Len(), kind: frameHeaders, flags: flagEndHeaders | flagEndStream, stream: id})
		return append(to, block.Bytes()...)
	}
	out := append([]byte(xhttp2.ClientPreface), appendSettings(nil)...)
	in := make([]byte, 64<<10)
	r0, w := 0, 0
	id := uint32(1)
	const together = 4
	b.ReportAllocs()
	for b.Loop() {
		for range together {
			out = head(id, out)
			id += 2
		}
		out = appendWindowUpdate(out, 0, together<<10)
		if _, err := conn.Write(out); err != nil {
			b.Fatal(err)
		}
		out = out[:0]
		for ended := 0; ended < together; {
			if w-r0 < headSize || w-r0 < headSize+int(binary.BigEndian.Uint32(in[r0:])>>8) {
				w, r0 = copy(in, in[r0:w]), 0
				n, err := io.ReadAtLeast(conn, in[w:], 1)
				if err != nil {
					b.Fatal(err)
				}
				w += n
				continue
			}
			f := parseHead(in[r0:])
			r0 += headSize + f.length
			switch {
			case f.kind == frameGoAway || f.kind == frameReset:
				b.Fatal(f)
			case f.kind == frameData && f.has(flagEndStream):
				ended++
			}
		}
	}
}
