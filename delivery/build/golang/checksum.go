package golang

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// publicDatabase is the name and key of the Go project's checksum database, as the Go command has them.
const publicDatabase = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// checksums looks the hashes of modules up in the checksum database, which proves by its log that
// everybody is told the same.
type checksums struct {
	fetch *fetcher
	key   string // of the database, beginning with its name
	root  string // folder of the database's latest tree and tiles
	log   *slog.Logger
}

// lookup gives the h1 hash of a module's zip.
func (c *checksums) lookup(ctx context.Context, module, version string) (string, error) {
	name, _, _ := strings.Cut(c.key, "+")
	ops := databaseOps{checksums: c, remote: func(path string) ([]byte, error) {
		body, err := c.fetch.database(ctx, name, path)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		return io.ReadAll(io.LimitReader(body, 1<<20))
	}}
	lines, err := sumdb.NewClient(ops).Lookup(module, version)
	if err != nil {
		kind := maru.Unavailable
		if errors.Is(err, sumdb.ErrSecurity) {
			kind = maru.Denied
		}
		return "", maru.Errorf(kind, "checksum database: %w", err)
	}
	prefix := module + " " + version + " "
	for _, line := range lines {
		if hash, ok := strings.CutPrefix(line, prefix); ok {
			return hash, nil
		}
	}
	return "", maru.Errorf(maru.NotFound, "checksum database: %s@%s is not in it", module, version)
}

// databaseOps is what the database's client needs for one lookup.
type databaseOps struct {
	*checksums
	remote func(path string) ([]byte, error)
}

// ReadRemote asks the database.
func (o databaseOps) ReadRemote(path string) ([]byte, error) { return o.remote(path) }

// ReadConfig reads the key, or the latest known tree: empty at first.
func (c *checksums) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(c.key), nil
	}
	data, err := os.ReadFile(c.path(file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// WriteConfig keeps the latest known tree.
func (c *checksums) WriteConfig(file string, before, after []byte) error {
	now, err := c.ReadConfig(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, before) {
		return sumdb.ErrWriteConflict
	}
	return c.write(file, after)
}

// ReadCache reads a tile or record.
func (c *checksums) ReadCache(file string) ([]byte, error) { return os.ReadFile(c.path(file)) }

// WriteCache keeps a tile or record.
func (c *checksums) WriteCache(file string, data []byte) {
	if err := c.write(file, data); err != nil {
		c.log.Warn("a record of the checksum database was not kept", "error", err)
	}
}

// Log takes the client's notes.
func (c *checksums) Log(message string) { c.log.Debug("checksum database", "message", message) }

// SecurityError takes the client's proof that the database contradicts itself.
func (c *checksums) SecurityError(message string) {
	c.log.Error("the checksum database contradicts itself", "message", message)
}

func (c *checksums) path(file string) string { return filepath.Join(c.root, filepath.FromSlash(file)) }

func (c *checksums) write(file string, data []byte) error {
	path := c.path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return atomicfile.Write(path, data, 0o644)
}

// database reads a path of a checksum database: through a proxy that mirrors it, else from itself.
func (f *fetcher) database(ctx context.Context, name, path string) (io.ReadCloser, error) {
	body, err := f.open(ctx, "/sumdb/"+name+path, "")
	if err == nil || maru.KindOf(err) == maru.Denied {
		return body, err
	}
	return f.get(ctx, "https://"+name, path)
}
