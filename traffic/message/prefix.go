package message

import (
	"net/url"
	"strings"
)

// CutPrefix takes a prefix without a slash at its end from the front of a request's target,
// by whole segments. Path is the target's, decoded.
func CutPrefix(target, path, prefix string) string {
	prefix = strings.TrimRight(prefix, "/")
	raw, query := target, ""
	if i := strings.IndexByte(target, '?'); i >= 0 {
		raw, query = target[:i], target[i:]
	}
	rest, ok := cutPath(raw, prefix)
	if !ok {
		rest, ok = cutPath(raw, (&url.URL{Path: prefix}).EscapedPath())
	}
	if !ok {
		// The prefix is spelled in a way of the client's own: the rest is spelled anew.
		if rest, ok = cutPath(path, prefix); !ok {
			return target
		}
		rest = (&url.URL{Path: rest}).EscapedPath()
	}
	return rest + query
}

func cutPath(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return path, false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}
