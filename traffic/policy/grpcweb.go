package policy

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
)

// grpcWeb makes calls by gRPC-Web, which browsers can make, calls by gRPC, which services understand
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): what gRPC says in trailers is the last part of an
// answer's body, and with -text everything is base64. Other requests are left as they are.
type grpcWeb struct{}

const (
	grpcType    = "application/grpc"
	grpcWebType = "application/grpc-web"
	grpcText    = "-text"
)

// Headers that gRPC-Web needs of the CORS protocol: of requests, and of answers without a body.
var (
	grpcWebHeaders = []string{"Content-Type", "Grpc-Timeout", "X-Grpc-Web", "X-User-Agent"}
	grpcWebExposed = []string{"Grpc-Message", "Grpc-Status", "Grpc-Status-Details-Bin"}
)

func newGRPCWeb(is bool) (step, error) {
	if !is {
		return nil, nil
	}
	return grpcWeb{}, nil
}

func (grpcWeb) take(x *Exchange) *Answer {
	r := x.Request
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	format, is := strings.CutPrefix(strings.ToLower(message.Trim(kind)), grpcWebType)
	format, text := strings.CutPrefix(format, grpcText)
	if !is || r.Method != http.MethodPost || format != "" && format[0] != '+' {
		return nil
	}
	r.Header.Set("Content-Type", grpcType+format)
	r.Header.Set("Te", "trailers")
	r.Header.Del("Accept")
	x.Out.HTTP2 = true
	if text && r.Body != nil {
		r.Body, r.Length = &textBody{RequestBody: r.Body}, -1
	}
	x.Client = &webAnswer{Client: x.Client, text: text}
	return nil
}

// webAnswer gives the answer of a call in the form of gRPC-Web.
type webAnswer struct {
	message.Client
	text    bool
	trailer bool // is to be told in the body
	buf     []byte
}

// Begin begins the answer. One that is none of gRPC stays as it is, and one that has its status in the header needs no
// more of it.
func (c *webAnswer) Begin(r *message.Response) error {
	format, is := strings.CutPrefix(r.Header.Get("Content-Type"), grpcType)
	if !is {
		c.text = false
		return c.Client.Begin(r)
	}
	begun := *r
	kind := grpcWebType
	if c.text {
		kind += grpcText
	}
	begun.Header.Set("Content-Type", kind+format)
	begun.Header.Del("Trailer")
	if c.trailer = !begun.Header.Has("Grpc-Status"); c.trailer {
		begun.Length = -1
	}
	return c.Client.Begin(&begun)
}

// Write sends a piece.
func (c *webAnswer) Write(p []byte) error {
	if c.text {
		c.buf = base64.StdEncoding.AppendEncode(c.buf[:0], p)
		p = c.buf
	}
	return c.Client.Write(p)
}

// End sends the trailer as a last frame.
func (c *webAnswer) End(trailer message.Header) error {
	if c.trailer {
		frame := append([]byte(nil), 0x80, 0, 0, 0, 0)
		for _, f := range trailer {
			frame = append(frame, strings.ToLower(f.Name)+": "+f.Value+"\r\n"...)
		}
		binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-5))
		if err := c.Write(frame); err != nil {
			return err
		}
	}
	return c.Client.End(nil)
}

// textBody decodes base64, in which padding may stand at the end of each part that was encoded.
type textBody struct {
	message.RequestBody
	raw     [4096]byte
	have    int    // of raw
	decoded []byte // is read next
	err     error
}

// Buffered is not known.
func (b *textBody) Buffered() (int, bool) { return 0, false }

// Read gives what is decoded.
func (b *textBody) Read(p []byte) (int, error) {
	for len(b.decoded) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		n, err := b.RequestBody.Read(b.raw[b.have:])
		b.have += n
		b.decode()
		if b.err == nil && err != nil {
			b.err = err
			if errors.Is(err, io.EOF) && b.have > 0 {
				b.err = errText()
			}
		}
	}
	n := copy(p, b.decoded)
	b.decoded = b.decoded[n:]
	return n, nil
}

// decode decodes what there is of whole groups of four letters, and moves the rest to the beginning.
func (b *textBody) decode() {
	whole := b.have / 4 * 4
	out := make([]byte, 0, whole/4*3)
	for at := 0; at < whole; at += 4 {
		var err error
		if out, err = base64.StdEncoding.Strict().AppendDecode(out, b.raw[at:at+4]); err != nil {
			b.err = errText()
			return
		}
	}
	b.decoded = out
	b.have = copy(b.raw[:], b.raw[whole:b.have])
}

func errText() error {
	return &http1.Error{Status: http.StatusBadRequest, What: "The body of a call by grpc-web-text is not base64."}
}
