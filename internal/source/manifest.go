// Package source names the content of a folder that images are built from, so that a client sends to
// a server only what the server lacks. The client makes manifests with [Scan]; the server checks each
// with [Manifest.Check] before it trusts a path in it.
package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/marucloud/maru"
)

// Limits of a manifest.
const (
	MaxEntries   = 500_000
	MaxPath      = 4096 // bytes
	MaxComponent = 255  // bytes
)

// Types of an entry, as the type bits of its mode.
const (
	typeMask   = 0o170000
	TypeFile   = 0o100000
	TypeFolder = 0o040000
	TypeLink   = 0o120000
	permMask   = 0o7777
)

// Digest is the SHA-256 of a file's content.
type Digest [sha256.Size]byte

// String gives the digest in hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Entry is a file, folder or symbolic link.
type Entry struct {
	Path   string // relative, clean, with forward slashes
	Mode   uint32 // type and permission bits as on Unix
	Size   int64  // of a file, bytes
	Digest Digest // of a file's content
	Target string // of a symbolic link, as written
}

// IsFile, IsFolder and IsLink tell the entry's type.
func (e Entry) IsFile() bool   { return e.Mode&typeMask == TypeFile }
func (e Entry) IsFolder() bool { return e.Mode&typeMask == TypeFolder }
func (e Entry) IsLink() bool   { return e.Mode&typeMask == TypeLink }

// Perm gives the permission bits.
func (e Entry) Perm() uint32 { return e.Mode & permMask }

// Manifest names everything in a folder, sorted so that each folder comes before what is in it.
type Manifest []Entry

// Check tells whether every path stays inside the folder and has a place there: no entry is below a
// file or link, each one's folder comes before it, and none comes twice. The error is Invalid.
func (m Manifest) Check() error {
	if len(m) > MaxEntries {
		return maru.WithHint(maru.Errorf(maru.Exhausted, "the folder has %d entries; at most %d can be sent", len(m), MaxEntries),
			"leave out what the build does not need with a .dockerignore file")
	}
	folders := map[string]bool{".": true}
	seen := make(map[string]bool, len(m))
	for _, e := range m {
		if err := e.check(); err != nil {
			return err
		}
		if seen[e.Path] {
			return maru.Errorf(maru.Invalid, "path %q comes twice", e.Path)
		}
		seen[e.Path] = true
		if !folders[path.Dir(e.Path)] {
			return maru.Errorf(maru.Invalid, "path %q comes without its folder before it", e.Path)
		}
		if e.IsFolder() {
			folders[e.Path] = true
		}
	}
	return nil
}

func (e Entry) check() error {
	// fs.ValidPath refuses what is absolute, unclean, or has "..", and "." is the folder itself.
	if !fs.ValidPath(e.Path) || e.Path == "." || len(e.Path) > MaxPath || strings.ContainsAny(e.Path, "\x00\\") {
		return maru.Errorf(maru.Invalid, "path %q is not allowed", clip(e.Path))
	}
	for component := range strings.SplitSeq(e.Path, "/") {
		if len(component) > MaxComponent {
			return maru.Errorf(maru.Invalid, "path %q has a name longer than %d bytes", clip(e.Path), MaxComponent)
		}
	}
	if e.Mode&^(typeMask|permMask) != 0 {
		return maru.Errorf(maru.Invalid, "path %q has the unknown mode %o", e.Path, e.Mode)
	}
	switch {
	case e.IsFile():
		if e.Size < 0 || e.Target != "" {
			return maru.Errorf(maru.Invalid, "file %q has a size below zero or a target", e.Path)
		}
	case e.IsFolder():
		if e.Size != 0 || e.Target != "" || e.Digest != (Digest{}) {
			return maru.Errorf(maru.Invalid, "folder %q has content", e.Path)
		}
	case e.IsLink():
		if e.Size != 0 || e.Digest != (Digest{}) || e.Target == "" || len(e.Target) > MaxPath ||
			strings.ContainsRune(e.Target, 0) || !utf8.ValidString(e.Target) {
			return maru.Errorf(maru.Invalid, "symbolic link %q is not allowed", e.Path)
		}
	default:
		return maru.Errorf(maru.Invalid, "path %q is neither a file, nor a folder, nor a symbolic link", e.Path)
	}
	return nil
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// ID names the content: two folders have the same exactly when nothing that a build sees differs.
func (m Manifest) ID() string {
	h := sha256.New()
	for _, e := range m {
		fmt.Fprintf(h, "%q %o %d %s %q\n", e.Path, e.Mode, e.Size, e.Digest, e.Target)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// MarshalText gives the digest in hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a digest in hex.
func (d *Digest) UnmarshalText(text []byte) error {
	data, err := hex.DecodeString(string(text))
	if err != nil || len(data) != len(d) {
		return maru.Errorf(maru.Invalid, "%q is no SHA-256 digest", clip(string(text)))
	}
	*d = Digest(data)
	return nil
}
