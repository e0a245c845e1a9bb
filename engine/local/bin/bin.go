// Package bin carries the small programs that run for each instance, compressed inside the one
// binary: the containerd shim, runc, and the init that reaps. scripts/embed.sh makes them. The
// package compiles without them, and Install then says how to get them.
package bin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

//go:embed all:embedded
var embedded embed.FS

// Names of the embedded programs.
const (
	shimName = "containerd-shim-maru"
	runcName = "runc"
	initName = "maru-init"
)

// Programs are the installed programs, by absolute path.
type Programs struct {
	Shim    string
	Runc    string
	Init    string
	Seccomp bool // runc can filter system calls
}

// Install unpacks the programs into a folder below folder that is named after their content, so that
// those of another version, which running instances still need, stay as they are. It is idempotent.
// Unavailable: this binary was built without them.
func Install(folder string) (Programs, error) {
	id, err := version()
	if err != nil {
		return Programs{}, err
	}
	folder = filepath.Join(folder, id)
	if err := atomicfile.MkdirAll(folder, 0o755); err != nil {
		return Programs{}, fmt.Errorf("install programs: %w", err)
	}
	for _, name := range []string{shimName, runcName, initName} {
		if err := unpack(name, filepath.Join(folder, name)); err != nil {
			return Programs{}, fmt.Errorf("install %s: %w", name, err)
		}
	}
	_, err = fs.Stat(embedded, "embedded/seccomp")
	return Programs{
		Shim:    filepath.Join(folder, shimName),
		Runc:    filepath.Join(folder, runcName),
		Init:    filepath.Join(folder, initName),
		Seccomp: err == nil,
	}, nil
}

// Clean removes what other versions installed into folder, but for the programs in keep.
func Clean(folder string, keep []string) error {
	id, err := version()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		used := slices.ContainsFunc(keep, func(program string) bool { return filepath.Dir(program) == path })
		if entry.Name() != id && !used {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	return errors.Join(failed...)
}

// version names the embedded programs by their content.
func version() (string, error) {
	sum := sha256.New()
	for _, name := range []string{shimName, runcName, initName} {
		content, err := embedded.ReadFile("embedded/" + name + ".sum")
		if err != nil {
			return "", maru.WithHint(maru.Errorf(maru.Unavailable, "this binary was built without %s", name),
				"run make build, or scripts/embed.sh before go build")
		}
		_, _ = sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

func unpack(name, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	packed, err := embedded.Open("embedded/" + name + ".zst")
	if err != nil {
		return err
	}
	defer packed.Close()
	content, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer content.Close()
	return atomicfile.WriteFunc(path, 0o755, func(w io.Writer) error {
		_, err := io.Copy(w, content)
		return err
	})
}
