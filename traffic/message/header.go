package message

import (
	"iter"
	"strings"
)

// Field is a line of a header.
type Field struct{ Name, Value string }

// Header is a header's fields in the order and the spelling in which they came. Names are compared
// without regard to case.
type Header []Field

// Get gives the first value of that name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if Equal(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has tells whether a field has that name.
func (h Header) Has(name string) bool {
	for i := range h {
		if Equal(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Values gives the values of that name.
func (h Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h {
			if Equal(h[i].Name, name) && !yield(h[i].Value) {
				return
			}
		}
	}
}

// Cookie gives the value of the first cookie of that name (RFC 6265, 4.2).
func (h Header) Cookie(name string) string {
	for line := range h.Values("Cookie") {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			if k, v, ok := strings.Cut(Trim(pair), "="); ok && k == name {
				return v
			}
		}
	}
	return ""
}

// Add adds a field behind those that are there.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set has the name stand once, with that value.
func (h *Header) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// Del takes the fields of that name away.
func (h *Header) Del(name string) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !Equal(f.Name, name) {
			kept = append(kept, f)
		}
	}
	*h = kept
}

// HasToken tells whether a field of that name lists the token.
func (h Header) HasToken(name, token string) bool {
	for i := range h {
		if Equal(h[i].Name, name) && ListHas(h[i].Value, token) {
			return true
		}
	}
	return false
}

// ListHas tells whether a comma-separated list has the token.
func ListHas(list, token string) bool {
	for list != "" {
		var item string
		item, list, _ = strings.Cut(list, ",")
		if Equal(Trim(item), token) {
			return true
		}
	}
	return false
}

// Trim takes optional whitespace (RFC 9110, 5.6.3) from both ends.
func Trim(s string) string { return strings.Trim(s, " \t") }

// Equal compares without regard to the case of ASCII letters, and of these alone: to
// [strings.EqualFold] the Kelvin sign is a k.
func Equal(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && (lower(a[i]) != lower(b[i])) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// HopByHop tells whether a field is of one connection, not of the message (RFC 9110, 7.6.1).
func HopByHop(name string) bool {
	switch len(name) {
	case 2:
		return Equal(name, "Te")
	case 7:
		return Equal(name, "Upgrade") || Equal(name, "Trailer")
	case 10:
		return Equal(name, "Connection") || Equal(name, "Keep-Alive")
	case 16:
		return Equal(name, "Proxy-Connection")
	case 17:
		return Equal(name, "Transfer-Encoding")
	case 18:
		return Equal(name, "Proxy-Authenticate")
	case 19:
		return Equal(name, "Proxy-Authorization")
	}
	return false
}

// Op is a way to change a header.
type Op int

// The ways, in the order in which they are done.
const (
	Remove Op = iota
	Set
	Add
)

// Edit is one change of a header.
type Edit struct {
	Op          Op
	Name, Value string
}

// Apply does it.
func (e Edit) Apply(h *Header) {
	switch e.Op {
	case Remove:
		h.Del(e.Name)
	case Set:
		h.Set(e.Name, e.Value)
	case Add:
		h.Add(e.Name, e.Value)
	}
}
