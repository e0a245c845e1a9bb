package message

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
)

// AskUpgrade makes of a CONNECT for WebSocket on a stream (RFC 8441, 5; RFC 9220) the request that says the
// same by HTTP/1.1.
func (r *Request) AskUpgrade() {
	r.Method, r.Upgrade, r.Body, r.Length = http.MethodGet, "websocket", nil, 0
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	r.Header.Set("Sec-Websocket-Key", base64.StdEncoding.EncodeToString(key[:]))
	if !r.Header.Has("Sec-Websocket-Version") {
		r.Header.Add("Sec-Websocket-Version", "13")
	}
}
