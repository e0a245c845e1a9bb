package source

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// settled is how old a change must be for a file's times to tell the next one apart: file systems
// keep times no finer than two seconds.
const settled = 2 * time.Second

const cacheVersion = "maru-digests-1"

// stamp tells two states of a file apart without reading it.
type stamp struct {
	size    int64
	mtime   int64 // nanoseconds
	changed int64 // of the inode, nanoseconds; 0 where there is none
	inode   uint64
}

type cached struct {
	stamp  stamp
	digest Digest
}

// cache keeps the digests of one folder's files between runs. Losing it costs time only, so no error
// of it matters.
type cache struct {
	file string
	old  map[string]cached

	mu      sync.Mutex
	now     map[string]cached
	changed bool
}

func openCache(dir, folder string) *cache {
	c := &cache{now: map[string]cached{}}
	absolute, err := filepath.Abs(folder)
	if dir == "" || err != nil {
		return c
	}
	name := sha256.Sum256([]byte(absolute))
	c.file = filepath.Join(dir, hex.EncodeToString(name[:16]))
	data, err := os.ReadFile(c.file)
	if err != nil {
		return c
	}
	c.old = decodeCache(data)
	return c
}

func (c *cache) get(path string, info fs.FileInfo) (Digest, bool) {
	was, ok := c.old[path]
	if !ok || was.stamp != stampOf(info) {
		return Digest{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[path] = was
	return was.digest, true
}

// put keeps a digest, unless the file may change again without its times telling.
func (c *cache) put(path string, info fs.FileInfo, digest Digest, read time.Time) {
	s := stampOf(info)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	if newest := max(s.mtime, s.changed); read.UnixNano()-newest < int64(settled) {
		return
	}
	c.now[path] = cached{s, digest}
}

func (c *cache) save() {
	if c.file == "" || !c.changed && len(c.now) == len(c.old) {
		return
	}
	if os.MkdirAll(filepath.Dir(c.file), 0o700) != nil {
		return
	}
	temporary, err := os.CreateTemp(filepath.Dir(c.file), ".digests-*")
	if err != nil {
		return
	}
	_, err = temporary.Write(encodeCache(c.now))
	if closed := temporary.Close(); err != nil || closed != nil || os.Rename(temporary.Name(), c.file) != nil {
		_ = os.Remove(temporary.Name())
	}
}

func encodeCache(entries map[string]cached) []byte {
	var b bytes.Buffer
	b.WriteString(cacheVersion + "\n")
	for path, e := range entries {
		fmt.Fprintf(&b, "%d %d %d %d %s %s\n", e.stamp.size, e.stamp.mtime, e.stamp.changed, e.stamp.inode, e.digest, strconv.Quote(path))
	}
	return b.Bytes()
}

// decodeCache leaves out what it can't read.
func decodeCache(data []byte) map[string]cached {
	entries := map[string]cached{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != cacheVersion {
		return entries
	}
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 6)
		if len(fields) != 6 {
			continue
		}
		var e cached
		var err [6]error
		var digest []byte
		var path string
		e.stamp.size, err[0] = strconv.ParseInt(fields[0], 10, 64)
		e.stamp.mtime, err[1] = strconv.ParseInt(fields[1], 10, 64)
		e.stamp.changed, err[2] = strconv.ParseInt(fields[2], 10, 64)
		e.stamp.inode, err[3] = strconv.ParseUint(fields[3], 10, 64)
		digest, err[4] = hex.DecodeString(fields[4])
		path, err[5] = strconv.Unquote(fields[5])
		if err != [6]error{} || len(digest) != len(e.digest) {
			continue
		}
		e.digest = Digest(digest)
		entries[path] = e
	}
	return entries
}
