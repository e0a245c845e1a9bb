package http1

import (
	"bytes"
	"net/http"
	"strconv"

	"golang.org/x/net/http/httpguts"

	"github.com/marucloud/maru/traffic/message"
)

// head writes the header of a message. It counts its lines, so that a value with a line end in it,
// wherever it came from, is found before it is sent.
type head struct {
	b     []byte
	from  int
	lines int
}

func newHead(b []byte) head { return head{b: b, from: len(b)} }

func (h *head) start(parts ...string) {
	for _, p := range parts {
		h.b = append(h.b, p...)
	}
	h.crlf()
}

func (h *head) crlf() {
	h.b = append(h.b, '\r', '\n')
	h.lines++
}

func (h *head) field(name, value string) {
	h.b = append(h.b, name...)
	h.b = append(h.b, ':', ' ')
	h.b = append(h.b, value...)
	h.crlf()
}

func (h *head) fields(list message.Header) {
	for i := range list {
		h.field(list[i].Name, list[i].Value)
	}
}

func (h *head) number(name string, n int64) {
	h.b = append(h.b, name...)
	h.b = append(h.b, ':', ' ')
	h.b = strconv.AppendInt(h.b, n, 10)
	h.crlf()
}

// end writes the empty line.
func (h *head) end() ([]byte, error) {
	h.crlf()
	written := h.b[h.from:]
	if bytes.Count(written, []byte{'\n'}) != h.lines || bytes.Count(written, []byte{'\r'}) != h.lines || bytes.IndexByte(written, 0) >= 0 {
		return h.b[:h.from], errSplit
	}
	return h.b, nil
}

var lastChunk = []byte("0\r\n")

// appendTrailer ends a chunked body. Fields that may not come behind a body are left out.
func appendTrailer(b []byte, trailer message.Header) []byte {
	b = append(b, lastChunk...)
	h := newHead(b)
	for _, f := range trailer {
		if httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(f.Name)) && !message.HopByHop(f.Name) {
			h.field(f.Name, f.Value)
		}
	}
	done, err := h.end()
	if err != nil {
		return append(done, '\r', '\n')
	}
	return done
}

func appendChunkSize(b []byte, n int) []byte {
	b = strconv.AppendInt(b, int64(n), 16)
	return append(b, '\r', '\n')
}

// appendStatus writes the first line of an answer, without its end.
func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK"...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	return append(b, http.StatusText(status)...)
}
