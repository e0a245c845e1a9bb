package http1

import (
	"bytes"

	"github.com/marucloud/maru/traffic/message"
)

// parseResponse parses the header of an answer to a request by that method.
func parseResponse(b []byte, method string, r *message.Response) (framing, error) {
	f := framing{length: -1}
	end := bytes.IndexByte(b, '\n') - 1
	minor, err := statusLine(b[:end], r)
	if err != nil {
		return f, err
	}
	if r.Header, err = f.fields(b[end+2:], r.Header[:0]); err != nil {
		return f, err
	}
	f.close = f.close || minor == 0 && !f.keepAlive
	switch {
	case minor == 0 && f.coding:
		return f, bad("HTTP/1.0 has no transfer codings.")
	case f.coding && f.length >= 0:
		// RFC 9112, 6.3: the coding counts, and the sender is not trusted with another message.
		f.length, f.close = -1, true
	}
	r.Length = f.length
	if !hasBody(method, r.Status) {
		f.chunked = false
		f.close = f.close || r.Status != 101 && f.coding && method != "HEAD"
	} else if !f.chunked && f.length < 0 {
		f.close = true
	}
	return f, nil
}

// hasBody tells whether a body follows: RFC 9112, 6.3.
func hasBody(method string, status int) bool {
	return method != "HEAD" && status >= 200 && status != 204 && status != 304
}

// statusLine takes a line without reason and without the space before it too, which some servers send.
func statusLine(line []byte, r *message.Response) (minor int, err error) {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || !digit(line[7]) || line[8] != ' ' ||
		!digit(line[9]) || !digit(line[10]) || !digit(line[11]) || line[9] == '0' || len(line) > 12 && line[12] != ' ' {
		return 0, bad("The status line is malformed.")
	}
	for _, c := range line[12:] {
		if !isValue[c] {
			return 0, bad("The status line is malformed.")
		}
	}
	r.Status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
	return min(int(line[7]-'0'), 1), nil
}
