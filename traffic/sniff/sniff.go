// Package sniff tells by the first bytes of a connection whether HTTP is spoken on it.
package sniff

import (
	"errors"
	"net"
	"os"
	"time"
)

// Protocol is what a connection speaks.
type Protocol int

// What the first bytes tell.
const (
	Unsure Protocol = iota // more bytes are needed
	HTTP1
	HTTP2 // by prior knowledge
	Other
)

const (
	preface      = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	longestStart = 32 // no method is longer
)

// Classify tells what begins with these bytes.
func Classify(start []byte) Protocol {
	if len(start) == 0 {
		return Unsure
	}
	if n := min(len(start), len(preface)); string(start[:n]) == preface[:n] {
		switch {
		case n == len(preface):
			return HTTP2
		case n > len("PRI "):
			return Unsure
		}
	}
	for i, c := range start {
		switch {
		case i >= longestStart:
			return Other
		case c == ' ' && i > 0:
			return afterMethod(start[i+1:])
		case !methodByte(c):
			return Other
		}
	}
	return Unsure
}

// afterMethod looks at the first byte of a request's target: a path, "*", or the authority of an
// absolute or CONNECT target.
func afterMethod(target []byte) Protocol {
	if len(target) == 0 {
		return Unsure
	}
	c := target[0]
	if c == '/' || c == '*' || c == '[' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		return HTTP1
	}
	return Other
}

// methodByte takes the capital letters that methods are made of, and "-" as in M-SEARCH. RFC 9110
// permits other tokens, but nobody sends them, and text protocols begin with lower case words.
func methodByte(c byte) bool { return c >= 'A' && c <= 'Z' || c == '-' || c == '_' }

// Read reads the first bytes of c, for at most patience, until they tell what is spoken, and gives
// them. A client that says nothing in that time is taken for HTTP/1: with HTTP a client speaks first,
// and some connect ahead of need.
func Read(c net.Conn, patience time.Duration) ([]byte, Protocol, error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, Other, err
	}
	buf := make([]byte, 0, 512)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		p := Classify(buf)
		switch {
		case p != Unsure:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p = Other
			if len(buf) == 0 {
				p = HTTP1
			}
		case err != nil:
			return nil, Other, err
		default:
			continue
		}
		return buf, p, c.SetReadDeadline(time.Time{})
	}
}
