// Package loguri is how the engine tells an instance's shim where its log is: an address in the place
// of the path of the task's stdout.
package loguri

import (
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/marucloud/maru"
)

const scheme = "maru-log"

// Format gives the address of the log of one attempt in an absolute folder.
func Format(dir string, attempt int) string {
	query := url.Values{"attempt": {strconv.Itoa(attempt)}}
	return (&url.URL{Scheme: scheme, Path: dir, RawQuery: query.Encode()}).String()
}

// Parse reads an address. The error is of kind Invalid.
func Parse(address string) (dir string, attempt int, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme || u.Host != "" || !filepath.IsAbs(u.Path) {
		return "", 0, maru.Errorf(maru.Invalid, "%q is not the address of a log", address)
	}
	attempt, err = strconv.Atoi(u.Query().Get("attempt"))
	if err != nil || attempt < 1 {
		return "", 0, maru.Errorf(maru.Invalid, "%q names no attempt", address)
	}
	return u.Path, attempt, nil
}

// Is tells whether the path is such an address.
func Is(path string) bool {
	const prefix = scheme + ":"
	return len(path) > len(prefix) && path[:len(prefix)] == prefix
}
