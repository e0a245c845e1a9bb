// Package quota counts requests by the calendar, for longer than a process lives. The proxies of a machine, of which two
// run while one follows the other, count together in one file: each adds to it what it has counted, once a
// second, and reads what the others added. So a proxy that is killed forgets one second's requests, and two may let
// through together what one second brings beyond a quota. The file is not synced: after a power cut what was
// counted in the last half minute may be gone, in favor of who was counted.
package quota

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/traffic/policy"
)

const (
	every        = time.Second
	fileName     = "quotas"
	compactBytes = 1 << 20 // from which on the file is written anew when it is twice as large as it was then
	// mostKeys bounds how many are remembered. Those that come first count; the requests of more are let through, as
	// nobody gives out that many keys.
	mostKeys = 1 << 20
)

// Counter implements [policy.Quotas]. It is for many goroutines.
type Counter struct {
	path string // "": in memory alone
	log  *slog.Logger

	mu    sync.Mutex
	keys  map[policy.QuotaKey]*count
	dirty map[policy.QuotaKey]struct{}

	// Of the one who syncs:
	file *os.File
	read int64 // how far
	base int64 // size when it was last written anew
}

// count is what was used of a share.
type count struct {
	ends  int64 // Unix seconds
	known int64 // that is in the file
	own   int64 // that is not there yet
}

// New makes a counter that keeps its file in the folder; "": none. It reads what is there.
func New(folder string, log *slog.Logger) *Counter {
	c := &Counter{log: log, keys: map[policy.QuotaKey]*count{}, dirty: map[policy.QuotaKey]struct{}{}}
	if folder != "" {
		c.path = filepath.Join(folder, fileName)
		err := os.MkdirAll(folder, 0o700)
		if err == nil {
			err = c.sync(time.Now())
		}
		if err != nil {
			log.Error("what was used of quotas can't be read", "error", err)
		}
	}
	return c
}

// Take counts one more, if there is one left.
func (c *Counter) Take(key policy.QuotaKey, ends time.Time, most int64) (used int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.keys[key]
	switch {
	case n == nil && len(c.keys) >= mostKeys:
		return 0, true
	case n == nil || n.ends < ends.Unix():
		n = &count{ends: ends.Unix()}
		c.keys[key] = n
	}
	if used = n.known + n.own; used >= most {
		return used, false
	}
	n.own++
	c.dirty[key] = struct{}{}
	return used, true
}

// Run shares with the file what was counted, until ctx ends, and once more then.
func (c *Counter) Run(ctx context.Context) {
	if c.path == "" {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failing := false
	for {
		ending := false
		select {
		case <-ticker.C:
		case <-ctx.Done():
			ending = true
		}
		err := c.sync(time.Now())
		if err != nil && !failing {
			c.log.Error("what is used of quotas can't be kept", "error", err)
		}
		if failing = err != nil; ending {
			if c.file != nil {
				c.file.Close()
			}
			return
		}
	}
}

// sync adds what was counted to the file, and takes in what others added. Nobody else does either meanwhile.
func (c *Counter) sync(now time.Time) error {
	lock, err := os.OpenFile(c.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if err := c.open(); err != nil {
		return err
	}
	if err := c.takeIn(); err != nil {
		return err
	}
	if err := c.add(); err != nil {
		return err
	}
	if c.read > max(compactBytes, 2*c.base) {
		return c.compact(now)
	}
	return nil
}

// open opens the file, again when another process wrote it anew: then everything is in it.
func (c *Counter) open() error {
	if c.file != nil {
		mine, err := c.file.Stat()
		if err != nil {
			return err
		}
		if there, err := os.Stat(c.path); err == nil && os.SameFile(mine, there) {
			return nil
		}
		c.file.Close()
		c.file = nil
	}
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	c.file, c.read, c.base = f, 0, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.keys {
		n.known = 0
	}
	return nil
}

// takeIn reads the lines that were added. What of the last one was not written whole is cut off: it would spoil the next.
func (c *Counter) takeIn() error {
	if _, err := c.file.Seek(c.read, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReader(c.file)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return c.file.Truncate(c.read)
			}
			return nil
		}
		if err != nil {
			return err
		}
		c.read += int64(len(line))
		if key, ends, n, ok := parse(line[:len(line)-1]); ok {
			c.learn(key, ends, n)
		}
	}
}

func (c *Counter) learn(key policy.QuotaKey, ends, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.keys[key]
	switch {
	case have == nil && len(c.keys) >= mostKeys:
	case have == nil || have.ends < ends:
		c.keys[key] = &count{ends: ends, known: n}
	case have.ends == ends:
		have.known += n
	}
}

// add writes what was counted here.
func (c *Counter) add() error {
	var b bytes.Buffer
	c.mu.Lock()
	for key := range c.dirty {
		if n := c.keys[key]; n != nil && n.own > 0 {
			write(&b, key, n.ends, n.own)
		}
	}
	c.mu.Unlock()
	if b.Len() == 0 {
		return nil
	}
	if _, err := c.file.Write(b.Bytes()); err != nil {
		return err
	}
	// It is known by having been read, and not own any more: what is counted meanwhile stays.
	from := c.read
	for line := range bytes.Lines(b.Bytes()) {
		if key, ends, n, ok := parse(bytes.TrimSuffix(line, []byte("\n"))); ok {
			c.settle(key, ends, n)
		}
	}
	c.read = from + int64(b.Len())
	return nil
}

func (c *Counter) settle(key policy.QuotaKey, ends, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.keys[key]; have != nil && have.ends == ends {
		have.own -= n
		have.known += n
		if have.own == 0 {
			delete(c.dirty, key)
		}
	}
}

// compact writes the file anew, without what is over.
func (c *Counter) compact(now time.Time) error {
	var b bytes.Buffer
	c.mu.Lock()
	for key, n := range c.keys {
		if n.ends <= now.Unix() {
			delete(c.keys, key)
			delete(c.dirty, key)
		} else if n.known > 0 {
			write(&b, key, n.ends, n.known)
		}
	}
	c.mu.Unlock()
	f, err := os.OpenFile(c.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(c.path+".new", c.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	c.file.Close()
	c.file, c.read, c.base = f, int64(b.Len()), int64(b.Len())
	return nil
}

// write writes a line: the checksum of what follows, key, end of the period and number.
func write(b *bytes.Buffer, key policy.QuotaKey, ends, n int64) {
	text := fmt.Sprintf("%x %d %d", key[:], ends, n)
	fmt.Fprintf(b, "%08x %s\n", crc32.ChecksumIEEE([]byte(text)), text)
}

func parse(line []byte) (key policy.QuotaKey, ends, n int64, ok bool) {
	sum, rest, _ := bytes.Cut(line, []byte(" "))
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE(rest)) != string(sum) {
		return key, 0, 0, false
	}
	fields := bytes.Fields(rest)
	if len(fields) != 3 || hex.DecodedLen(len(fields[0])) != len(key) {
		return key, 0, 0, false
	}
	_, bad := hex.Decode(key[:], fields[0])
	ends, err := strconv.ParseInt(string(fields[1]), 10, 64)
	n, err2 := strconv.ParseInt(string(fields[2]), 10, 64)
	return key, ends, n, cmp.Or(bad, err, err2) == nil && n >= 0
}
