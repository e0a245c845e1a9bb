package runner

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// minDerived is how long a secret must be, in bytes, for its encoded forms to be masked as well: those
// of shorter ones appear by chance.
const minDerived = 4

// masked stands for a secret in a log.
const masked = "***"

// Masks are the secrets that must not appear in logs. They are safe for concurrent use.
type Masks struct {
	mu     sync.RWMutex
	values []string // longest first
	max    int
}

// Add has a secret masked: as it is, each of its lines, and as base64 (wherever it stands in what was
// encoded), URLs and JSON show it.
func (m *Masks) Add(secret string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(secret)
	for line := range strings.Lines(secret) {
		m.add(strings.TrimRight(line, "\r\n"))
	}
	trimmed := strings.TrimSpace(secret)
	m.add(trimmed)
	for _, s := range []string{secret, trimmed} {
		if len(s) < minDerived {
			continue
		}
		m.add(url.QueryEscape(s))
		m.add(url.PathEscape(s))
		if quoted, err := json.Marshal(s); err == nil {
			m.add(string(quoted[1 : len(quoted)-1]))
		}
		for _, encoded := range base64Forms(s) {
			m.add(encoded)
		}
	}
	slices.SortFunc(m.values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	m.values = slices.Compact(m.values)
	if len(m.values) > 0 {
		m.max = len(m.values[0])
	}
}

func (m *Masks) add(s string) {
	if strings.TrimSpace(s) != "" {
		m.values = append(m.values, s)
	}
}

// base64Forms are the characters that stand for a secret in base64, in each of the three positions
// that its first byte can have; those that are shared with what stands beside it are left out.
func base64Forms(s string) []string {
	var forms []string
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			text := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + s))
			text = text[(shift*8+5)/6:] // characters with bits of what is before
			if (shift+len(s))%3 != 0 {
				text = text[:len(text)-1]
			}
			if len(text) >= minDerived {
				forms = append(forms, text)
			}
		}
		forms = append(forms, enc.WithPadding(base64.StdPadding).EncodeToString([]byte(s)))
	}
	return forms
}

// Replace gives the text with all secrets masked.
func (m *Masks) Replace(text string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, v := range m.values {
		text = strings.ReplaceAll(text, v, masked)
	}
	return text
}

// cut tells how much of an unfinished line can be shown without showing the beginning of a secret
// whose end is still to come.
func (m *Masks) cut(text string) int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	at := len(text)
	for back := min(m.max-1, len(text)); back > 0; back-- {
		tail := text[len(text)-back:]
		if slices.ContainsFunc(m.values, func(v string) bool { return len(v) > len(tail) && strings.HasPrefix(v, tail) }) {
			at = len(text) - back
			break
		}
	}
	for moved := true; moved; { // nor cut one in two that is all there
		moved = false
		for _, v := range m.values {
			from := max(0, at-len(v)+1)
			if i := strings.Index(text[from:min(len(text), at+len(v)-1)], v); i >= 0 && from+i < at {
				at, moved = from+i, true
			}
		}
	}
	for at > 0 && at < len(text) && !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}
