package message

import (
	"net/url"
	"strings"
)

// PathError says, in a sentence for the person who sent it, why a request's path is not taken.
type PathError string

func (e PathError) Error() string { return string(e) }

// errPath says that a path can be taken for more than one: it was written to get around something.
const errPath PathError = "The request's path can be read in more than one way."

// CleanPath gives a request's target without dot segments (RFC 3986, 6.2.2.3), otherwise as it was spelled:
// it may have been signed. What it gives as path is in the one spelling in which paths are compared:
// decoded, with slashes in a row as one. Encoded tells that a slash or backslash is percent-encoded in the
// target, or a backslash stands there: one program takes it for the end of a segment and another does not;
// path takes it for one.
//
// An error says that there is no one reading: dots that are a dot segment to some programs only, or
// that take another segment away from some than from others, because of encoded slashes, slashes in a row
// or a semicolon; or a zero byte.
func CleanPath(target, decoded string) (clean, path string, encoded bool, err error) {
	end := strings.IndexByte(target, '?')
	if end < 0 {
		end = len(target)
	}
	if isClean(target[:end]) {
		return target, decoded, false, nil
	}
	raw, encoded, err := respell(target[:end])
	if err != nil {
		return target, decoded, encoded, err
	}
	clean, dotless := target, withoutDots(raw)
	if dotless != raw {
		clean = dotless + target[end:]
	}
	path = merged(decode(dotless))
	if path != withoutDots(merged(decode(raw))) || hasParameteredDots(path) {
		return target, decoded, encoded, errPath
	}
	return clean, path, encoded, nil
}

// hasParameteredDots tells whether a segment is one of dots for who takes parameters off it.
func hasParameteredDots(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// isClean tells whether a path is in its one spelling beyond doubt, as nearly all are.
func isClean(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '%', '\\', ';':
			return false
		case '/':
			if i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
				return false
			}
		}
	}
	return true
}

// respell decodes unreserved characters and writes all other triplets in upper case.
func respell(path string) (clean string, encoded bool, err error) {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			encoded = encoded || path[i] == '\\'
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", encoded, errPath
		}
		high, ok := unhex(path[i+1])
		low, ok2 := unhex(path[i+2])
		c := high<<4 | low
		switch {
		case !ok || !ok2 || c == 0:
			return "", encoded, errPath
		case unreserved(c):
			b.WriteByte(c)
		default:
			encoded = encoded || c == '/' || c == '\\'
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return b.String(), encoded, nil
}

// withoutDots takes dot segments out: RFC 3986, 5.2.4.
func withoutDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	segments := strings.Split(path, "/")
	kept := segments[:1]
	for i, segment := range segments[1:] {
		last := i == len(segments)-2
		switch {
		case segment != "." && segment != "..":
			kept = append(kept, segment)
			continue
		case segment == ".." && len(kept) > 1:
			kept = kept[:len(kept)-1]
		}
		if last {
			kept = append(kept, "")
		}
	}
	return strings.Join(kept, "/")
}

// decode decodes what respell left encoded; a backslash is a slash to who cares.
func decode(path string) string {
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			high, _ := unhex(path[i+1])
			low, _ := unhex(path[i+2])
			c = high<<4 | low
			i += 2
		}
		if c == '\\' {
			c = '/'
		}
		b = append(b, c)
	}
	return string(b)
}

func merged(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// Segments gives the path of a clean target as those read it to whom encoded slashes are part of a segment.
func Segments(clean string) string {
	raw, _, _ := strings.Cut(clean, "?")
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			b.WriteByte(raw[i])
			continue
		}
		high, _ := unhex(raw[i+1])
		low, _ := unhex(raw[i+2])
		if c := high<<4 | low; c == '/' || c == '\\' {
			b.WriteString(strings.ToUpper(raw[i : i+3]))
		} else {
			b.WriteByte(c)
		}
		i += 2
	}
	return merged(b.String())
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// ValidTarget tells whether a target is of characters that may stand in one as they are.
func ValidTarget(t string) bool {
	for i := range len(t) {
		if c := t[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// DecodePath gives the path of a target, decoded; false when its percent-encoding is malformed.
func DecodePath(target string) (string, bool) {
	path, _, _ := strings.Cut(target, "?")
	if strings.IndexByte(path, '%') < 0 {
		return path, true
	}
	decoded, err := url.PathUnescape(path)
	return decoded, err == nil
}
