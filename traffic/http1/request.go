package http1

import (
	"bytes"
	"strings"

	"github.com/marucloud/maru/traffic/message"
)

// longestTarget is what is taken of a target: RFC 9112, 3 asks for 8,000 bytes at least.
const longestTarget = 32 << 10

// parseRequest parses a request's header, of which every line is known to end with CRLF.
func parseRequest(b []byte, r *message.Request) (framing, error) {
	f := framing{length: -1}
	end := bytes.IndexByte(b, '\n') - 1
	if err := requestLine(b[:end], r); err != nil {
		return f, err
	}
	var err error
	if r.Header, err = f.fields(b[end+2:], r.Header[:0]); err != nil {
		return f, err
	}
	if err := f.hostOf(r); err != nil {
		return f, err
	}
	return f, f.lengthOf(r)
}

func requestLine(line []byte, r *message.Request) error {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || len(method) == 0 || len(target) == 0 {
		return bad("The request line is malformed.")
	}
	for _, c := range method {
		if !isToken[c] {
			return bad("The method is malformed.")
		}
	}
	if string(method) == "PRI" && string(target) == "*" && string(version) == "HTTP/2.0" {
		return errPreface
	}
	// RFC 9110, 6.2: a higher minor version is taken for the highest that is known.
	if len(version) != 8 || string(version[:5]) != "HTTP/" || version[6] != '.' || !digit(version[5]) || !digit(version[7]) {
		return bad("The request line is malformed.")
	}
	if version[5] != '1' {
		return errVersion
	}
	r.Major, r.Minor = 1, min(int(version[7]-'0'), 1)
	r.Method = text(method)
	if len(target) > longestTarget {
		return errTarget
	}
	return parseTarget(text(target), r)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// parseTarget takes the four forms of RFC 9112, 3.2. The host of an absolute target is the request's,
// whatever the Host field says.
func parseTarget(t string, r *message.Request) error {
	if !message.ValidTarget(t) {
		return bad("The request's target has a character in it that must be percent-encoded.")
	}
	r.Host = ""
	switch {
	case r.Method == "CONNECT":
		if !message.ValidHost(t) {
			return bad("The request's target is malformed.")
		}
		r.Target, r.Path, r.Host = t, "", t
		return nil
	case t == "*":
		if r.Method != "OPTIONS" {
			return bad("The request's target is malformed.")
		}
		r.Target, r.Path = t, t
		return nil
	case t[0] == '/':
		r.Target = t
	default:
		var err error
		if t, err = absolute(t, r); err != nil {
			return err
		}
		if t == "*" {
			r.Target, r.Path = t, t
			return nil
		}
		r.Target = t
	}
	path, ok := message.DecodePath(r.Target)
	if !ok {
		return bad("The request's target has a malformed percent-encoding.")
	}
	r.Path = path
	return nil
}

// absolute takes the host out of a target that begins with a scheme, and gives the rest.
func absolute(t string, r *message.Request) (string, error) {
	scheme, rest, ok := strings.Cut(t, "://")
	if !ok || !message.Equal(scheme, "http") && !message.Equal(scheme, "https") {
		return "", bad("The request's target is malformed.")
	}
	host := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		host, rest = rest[:i], rest[i:]
	} else {
		rest = ""
	}
	if !message.ValidHost(host) {
		return "", bad("The request's target has no valid host.")
	}
	r.Host = host
	switch {
	case rest == "" && r.Method == "OPTIONS":
		return "*", nil // RFC 9112, 3.2.4
	case rest == "":
		return "/", nil
	case rest[0] == '?':
		return "/" + rest, nil
	}
	return rest, nil
}

// hostOf sees that there is one host: RFC 9112, 3.2.
func (f *framing) hostOf(r *message.Request) error {
	switch {
	case f.hosts > 1:
		return bad("The request has more than one Host field.")
	case f.hosts == 0 && r.Minor > 0:
		return bad("The request has no Host field.")
	case f.host != "" && !message.ValidHost(f.host):
		return bad("The request's Host field is malformed.")
	case r.Host == "":
		r.Host = f.host
	}
	return nil
}

// lengthOf finds the body's length: RFC 9112, 6.3. A message with two lengths, and a coding from a
// client that is not known to understand it (6.1), are how requests are smuggled.
func (f *framing) lengthOf(r *message.Request) error {
	switch {
	case f.coding && f.length >= 0:
		return bad("The request has both a length and a transfer coding.")
	case f.coding && r.Minor == 0:
		return bad("HTTP/1.0 has no transfer codings.")
	case f.expect != "" && r.Minor > 0 && !message.Equal(f.expect, "100-continue"):
		return errExpect
	case f.chunked:
		r.Length = -1
	default:
		r.Length = max(f.length, 0)
	}
	r.Expects = f.expect != "" && r.Minor > 0 && r.Length != 0
	return nil
}
