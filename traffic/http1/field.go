package http1

import (
	"bytes"

	"github.com/marucloud/maru/traffic/message"
)

// mostFields bounds the lines of a header.
const mostFields = 256

// Sets of bytes: what tokens are made of (RFC 9110, 5.6.2) and what values are (5.5).
var isToken, isValue [256]bool

func init() { //nolint:gochecknoinits // tables
	for c := range 256 {
		isValue[c] = c >= ' ' && c != 0x7f || c == '\t'
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0 && c != 0:
			isToken[c] = true
		}
	}
}

// framing is what a header says of the length of its message and of the connection behind it.
type framing struct {
	length    int64 // -1: not said
	chunked   bool
	coding    bool // a transfer coding was named
	hosts     int
	host      string
	expect    string
	close     bool
	keepAlive bool
}

// fields parses the lines of a header, up to its empty line.
func (f *framing) fields(b []byte, h message.Header) (message.Header, error) {
	for len(b) > 2 {
		end := bytes.IndexByte(b, '\n') // a CR is before it: section saw to that
		name, value, err := field(b[:end-1])
		if err != nil {
			return h, err
		}
		b = b[end+1:]
		if len(h) == mostFields {
			return h, errFields
		}
		keep, err := f.special(name, value)
		if err != nil {
			return h, err
		}
		if keep {
			h = append(h, message.Field{Name: name, Value: value})
		}
	}
	return h, nil
}

// field parses a line. A space before the colon and a line that begins with one, which would go on
// with the line before, are no names: RFC 9112, 5.1 and 5.2.
func field(line []byte) (name, value string, err error) {
	i := 0
	for i < len(line) && isToken[line[i]] {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return "", "", bad("A header field has no valid name.")
	}
	v := line[i+1:]
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	for _, c := range v {
		if !isValue[c] {
			return "", "", bad("A header field has a control character in its value.")
		}
	}
	return text(line[:i]), text(v), nil
}

// special takes note of a field that is about the connection; keep tells whether it stays in the
// header too.
func (f *framing) special(name, value string) (keep bool, err error) {
	switch len(name) {
	case 4:
		if message.Equal(name, "Host") {
			f.hosts++
			f.host = value
			return false, nil
		}
	case 6:
		if message.Equal(name, "Expect") {
			f.expect = value
			return false, nil
		}
	case 10:
		if message.Equal(name, "Connection") {
			f.close = f.close || message.ListHas(value, "close")
			f.keepAlive = f.keepAlive || message.ListHas(value, "keep-alive")
		}
	case 14:
		if message.Equal(name, "Content-Length") {
			// RFC 9110, 8.6: a list of the same length may be refused as well, and is.
			if f.length >= 0 {
				return false, bad("The message has more than one length.")
			}
			var ok bool
			if f.length, ok = message.ParseLength(value); !ok {
				return false, bad("The message's length is not a number.")
			}
			return false, nil
		}
	case 17:
		if message.Equal(name, "Transfer-Encoding") {
			if f.coding || !message.Equal(value, "chunked") {
				return false, errCoding
			}
			f.coding, f.chunked = true, true
			return false, nil
		}
	}
	return true, nil
}
