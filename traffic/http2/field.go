package http2

import (
	"bytes"

	"github.com/marucloud/maru/traffic/message"
)

// Sets of bytes: what names are made of as they are sent (RFC 9113, 8.2.1), in either case, and what values
// are (RFC 9110, 5.5).
var isLower, isToken, isValue [256]bool

func init() { //nolint:gochecknoinits // tables
	for c := range 256 {
		isValue[c] = c >= ' ' && c != 0x7f || c == '\t'
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(c)) >= 0 && c != 0:
			isLower[c], isToken[c] = true, true
		case c >= 'A' && c <= 'Z':
			isToken[c] = true
		}
	}
}

func all(set *[256]bool, s string) bool {
	for i := range len(s) {
		if !set[s[i]] {
			return false
		}
	}
	return true
}

// validName tells whether a name is one that a client may send.
func validName(name string) bool { return name != "" && all(&isLower, name) }

// validValue tells whether a value is one that can be sent on by HTTP/1.1 (RFC 9113, 8.2.1 and 10.3).
func validValue(v string) bool {
	if v == "" {
		return true
	}
	first, last := v[0], v[len(v)-1]
	return first != ' ' && first != '\t' && last != ' ' && last != '\t' && all(&isValue, v)
}

// validField tells whether a field of an answer can be sent.
func validField(name, value string) bool {
	return name != "" && all(&isToken, name) && all(&isValue, value)
}

// ofConnection tells whether a field is about a connection of HTTP/1.1, and has no place in HTTP/2 (RFC 9113,
// 8.2.2).
func ofConnection(name string) bool {
	switch len(name) {
	case 7:
		return message.Equal(name, "Upgrade")
	case 10:
		return message.Equal(name, "Connection") || message.Equal(name, "Keep-Alive")
	case 16:
		return message.Equal(name, "Proxy-Connection")
	case 17:
		return message.Equal(name, "Transfer-Encoding")
	}
	return false
}
