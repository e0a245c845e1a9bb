package http2

import (
	"hash/maphash"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/marucloud/maru/traffic/message"
)

const (
	tableSize    = 4096 // of either side's dynamic table
	staticFields = 61
	// longestKept is what of a value is worth a place in the table.
	longestKept = 512
)

// staticNames are the static table's names (RFC 7541, A) with the first of their places.
var (
	staticNames = map[string]int{}
	statuses    = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
	seed        = maphash.MakeSeed()
)

func init() { //nolint:gochecknoinits // a table
	at := 0
	d := hpack.NewDecoder(0, func(f hpack.HeaderField) {
		if _, ok := staticNames[f.Name]; !ok {
			staticNames[f.Name] = at
		}
	})
	for at = 1; at <= staticFields; at++ {
		_, _ = d.Write([]byte{0x80 | byte(at)}) // it is there
	}
}

// encoder compresses headers (RFC 7541). A field has a place in the table once it is sent for the second time:
// what differs from answer to answer would only drive others out.
type encoder struct {
	kept    []keptField // the oldest first
	size    int
	limit   int // the size may be
	lowest  int // it was since the last block
	changed bool
	seen    [32]uint32
	lower   []byte
}

type keptField struct {
	name, value string
	hash        uint32
}

func (f *keptField) size() int { return len(f.name) + len(f.value) + 32 }

func newEncoder() encoder { return encoder{limit: tableSize, lowest: tableSize} }

// setLimit takes the client's word for how large the table may be.
func (e *encoder) setLimit(n uint32) {
	e.limit = int(min(n, tableSize))
	e.lowest = min(e.lowest, e.limit)
	e.changed = true
	e.evict()
}

func (e *encoder) evict() {
	n := 0
	for e.size > e.limit {
		e.size -= e.kept[n].size()
		n++
	}
	if n > 0 {
		left := copy(e.kept, e.kept[n:])
		clear(e.kept[left:])
		e.kept = e.kept[:left]
	}
}

// begin begins a block: RFC 7541, 4.2 and 6.3.
func (e *encoder) begin(b []byte) []byte {
	if e.changed {
		if e.lowest < e.limit {
			b = appendInt(b, 0x20, 5, e.lowest)
		}
		b = appendInt(b, 0x20, 5, e.limit)
		e.lowest, e.changed = tableSize, false
	}
	return b
}

// status writes the pseudo-header field of an answer.
func (e *encoder) status(b []byte, status int) []byte {
	if at, ok := statuses[status]; ok {
		return append(b, 0x80|at)
	}
	return append(b, 0x08, 3, '0'+byte(status/100%10), '0'+byte(status/10%10), '0'+byte(status%10))
}

// field writes a field, unless it is one that can't be sent.
func (e *encoder) field(b []byte, name, value string) []byte {
	hash := hashOf(name, value)
	for i := len(e.kept) - 1; i >= 0; i-- {
		if f := &e.kept[i]; f.hash == hash && f.value == value && message.Equal(f.name, name) {
			return appendInt(b, 0x80, 7, staticFields+len(e.kept)-i)
		}
	}
	if !validField(name, value) {
		return b
	}
	e.lower = appendLower(e.lower[:0], name)
	spelled := text(e.lower)
	first, prefix := byte(0), 4
	if isSensitive(spelled) {
		first = 0x10
	} else if slot := &e.seen[hash%uint32(len(e.seen))]; *slot != hash {
		*slot = hash
	} else if len(value) <= longestKept && len(name)+len(value)+32 <= e.limit {
		first, prefix = 0x40, 6
	}
	at := staticNames[spelled]
	if at == 0 {
		at = e.named(spelled)
	}
	b = appendInt(b, first, prefix, at)
	if at == 0 {
		b = appendText(b, spelled)
	}
	b = appendText(b, value)
	if first == 0x40 {
		e.keep(keptField{string(e.lower), strings.Clone(value), hash})
	}
	return b
}

// length writes a Content-Length field.
func (e *encoder) length(b []byte, n int64) []byte {
	e.lower = strconv.AppendInt(e.lower[:0], n, 10)
	return appendText(appendInt(b, 0, 4, staticNames["content-length"]), text(e.lower))
}

// named gives the place of a field of that name in the table, or 0.
func (e *encoder) named(name string) int {
	for i := len(e.kept) - 1; i >= 0; i-- {
		if e.kept[i].name == name {
			return staticFields + len(e.kept) - i
		}
	}
	return 0
}

func (e *encoder) keep(f keptField) {
	e.kept = append(e.kept, f)
	e.size += f.size()
	e.evict()
}

// isSensitive tells whether nobody on the way should have the field in a table (RFC 7541, 7.1.3).
func isSensitive(name string) bool {
	switch name {
	case "set-cookie", "cookie", "authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "authentication-info":
		return true
	}
	return false
}

func hashOf(name, value string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i]|0x20)) * 16777619
	}
	v := maphash.String(seed, value)
	return h ^ uint32(v) ^ uint32(v>>32) //nolint:gosec // of a hash
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendInt writes a number behind the bits before its prefix (RFC 7541, 5.1).
func appendInt(b []byte, first byte, prefix, n int) []byte {
	most := 1<<prefix - 1
	if n < most {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// appendText writes a string in the shorter of its two forms (RFC 7541, 5.2).
func appendText(b []byte, s string) []byte {
	if n := int(hpack.HuffmanEncodeLength(s)); n < len(s) { //nolint:gosec // not more than the string's
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, n), s)
	}
	return append(appendInt(b, 0, 7, len(s)), s...)
}

// text gives bytes as a string, without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
