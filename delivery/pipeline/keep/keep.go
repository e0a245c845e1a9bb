// Package keep keeps on disk what jobs leave: caches, for the runs to come, and artifacts, with their
// run. Streams are tar; they are kept compressed (Zstandard). What is kept appears whole or not at all.
package keep

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// record says what a file beside it keeps.
type record struct {
	Name    string    `json:"name"` // key of a cache, name of an artifact
	Scope   string    `json:"scope,omitempty"`
	Version string    `json:"version,omitempty"`
	Created time.Time `json:"created"`
	Bytes   int64     `json:"bytes"` // on disk
	Size    int64     `json:"size"`  // of the content
	Digest  string    `json:"digest,omitempty"`
}

const (
	contentExt = ".tar.zst"
	recordExt  = ".json"
)

func hash(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		sum.Write([]byte(p))
		sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil))[:40]
}

// bounded fails when more than left bytes are written.
type bounded struct {
	w    io.Writer
	left int64
	n    int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, maru.Errorf(maru.Exhausted, "it is larger than is kept")
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	b.n += int64(n)
	return n, err
}

// write keeps what fill writes, under base, with its record. It replaces what was there.
func write(base string, rec record, maxBytes int64, fill func(w io.Writer) error) (_ record, err error) {
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return rec, err
	}
	file, err := os.CreateTemp(filepath.Dir(base), "part-*")
	if err != nil {
		return rec, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	limited := &bounded{w: file, left: maxBytes}
	compressed, err := zstd.NewWriter(limited, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return rec, err
	}
	if err := fill(compressed); err != nil {
		return rec, errors.Join(err, compressed.Close())
	}
	if err := compressed.Close(); err != nil {
		return rec, err
	}
	if err := file.Sync(); err != nil {
		return rec, err
	}
	rec.Bytes = limited.n
	data, err := json.Marshal(rec)
	if err != nil {
		return rec, err
	}
	if err := os.Rename(file.Name(), base+contentExt); err != nil {
		return rec, err
	}
	if err := file.Close(); err != nil {
		return rec, err
	}
	return rec, atomicfile.Write(base+recordExt, data, 0o600)
}

// records reads those of a folder, by the path without extension. Parts that a crash left are removed.
func records(dir string) (map[string]record, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	all := map[string]record{}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if filepath.Ext(name) != recordExt {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var rec record
		if json.Unmarshal(data, &rec) == nil {
			all[name[:len(name)-len(recordExt)]] = rec
		}
	}
	return all, nil
}

func sweepParts(dir string) {
	parts, _ := filepath.Glob(filepath.Join(dir, "part-*"))
	for _, p := range parts {
		_ = os.Remove(p)
	}
}

// open gives the content under base.
func open(base string) (io.ReadCloser, error) {
	file, err := os.Open(base + contentExt)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &content{dec, file}, nil
}

type content struct {
	*zstd.Decoder
	file *os.File
}

func (c *content) Close() error {
	c.Decoder.Close()
	return c.file.Close()
}

func remove(base string) error {
	return errors.Join(ignoreMissing(os.Remove(base+recordExt)), ignoreMissing(os.Remove(base+contentExt)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
