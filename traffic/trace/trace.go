// Package trace reads and makes the W3C trace context's traceparent field.
package trace

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Field is the name of the field that ties a request to a trace, State of the one that vendors write.
const (
	Field = "Traceparent"
	State = "Tracestate"
)

// length is that of a version 00 value: VERSION-TRACE-PARENT-FLAGS in hexadecimal.
const length = 2 + 1 + 32 + 1 + 16 + 1 + 2

// ID gives the trace of a valid value, or "". A later version's value may go on behind a dash.
func ID(v string) string {
	if len(v) < length || len(v) > length && (v[:2] == "00" || v[length] != '-') || v[2] != '-' || v[35] != '-' || v[52] != '-' ||
		v[:2] == "ff" || !lowerHex(v[:2]) || !lowerHex(v[3:35]) || !lowerHex(v[36:52]) || !lowerHex(v[53:55]) ||
		zeros(v[3:35]) || zeros(v[36:52]) {
		return ""
	}
	return v[3:35]
}

// Append appends the value of a trace that begins here.
func Append(b []byte) []byte {
	var id [24]byte
	for i := 0; i < len(id); i += 8 {
		binary.LittleEndian.PutUint64(id[i:], rand.Uint64())
	}
	id[0] |= 1 // all zeros would not be valid
	id[16] |= 1
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, id[:16])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[16:])
	return append(b, "-01"...)
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}
