package keep

import (
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// Cache keeps the caches of one repository below Dir. Its methods are safe for concurrent use.
type Cache struct {
	Dir      string
	MaxEntry int64 // bytes on disk; 0: 2 GiB
	MaxTotal int64 // likewise, of all; 0: 10 GiB. What was not used for longest goes first

	mu sync.Mutex
}

func (c *Cache) base(scope, key, version string) string {
	return filepath.Join(c.Dir, hash(scope, strings.ToLower(key), version))
}

// Restore implements the runner's cache.
func (c *Cache) Restore(_ context.Context, scopes []string, key string, prefixes []string, version string) (string, io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := records(c.Dir)
	if err != nil {
		return "", nil, err
	}
	for _, scope := range scopes {
		base := c.base(scope, key, version)
		if _, ok := all[base]; !ok {
			base = newest(all, scope, version, append([]string{key}, prefixes...))
		}
		if base == "" {
			continue
		}
		content, err := open(base)
		if err != nil {
			return "", nil, err
		}
		now := time.Now()
		_ = os.Chtimes(base+contentExt, now, now) // only which goes first depends on it
		return all[base].Name, content, nil
	}
	return "", nil, maru.Errorf(maru.NotFound, "nothing is kept under the key %s", key)
}

// newest finds the newest whose key begins with the first prefix that any key begins with.
func newest(all map[string]record, scope, version string, prefixes []string) string {
	for _, p := range prefixes {
		best := ""
		for base, rec := range all {
			if rec.Scope == scope && rec.Version == version && strings.HasPrefix(strings.ToLower(rec.Name), strings.ToLower(p)) &&
				(best == "" || rec.Created.After(all[best].Created)) {
				best = base
			}
		}
		if best != "" {
			return best
		}
	}
	return ""
}

// Save implements the runner's cache.
func (c *Cache) Save(_ context.Context, scope, key, version string, archive io.Reader) error {
	base := c.base(scope, key, version)
	if _, err := os.Stat(base + recordExt); err == nil {
		return maru.Errorf(maru.Exists, "the key %s is kept already", key)
	}
	_, err := write(base, record{Name: key, Scope: scope, Version: version, Created: time.Now().UTC()}, cmp.Or(c.MaxEntry, 2<<30), func(w io.Writer) error {
		_, err := io.Copy(w, archive)
		return err
	})
	if err != nil {
		return err
	}
	return c.evict(base)
}

// evict removes what was not used for longest until the rest is within the bound.
func (c *Cache) evict(but string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := records(c.Dir)
	if err != nil {
		return err
	}
	type used struct {
		base string
		at   time.Time
	}
	var order []used
	total := int64(0)
	for base, rec := range all {
		total += rec.Bytes
		if info, err := os.Stat(base + contentExt); err == nil && base != but {
			order = append(order, used{base, info.ModTime()})
		}
	}
	slices.SortFunc(order, func(a, b used) int { return a.at.Compare(b.at) })
	for _, u := range order {
		if total <= cmp.Or(c.MaxTotal, 10<<30) {
			break
		}
		if err := remove(u.base); err != nil {
			return err
		}
		total -= all[u.base].Bytes
	}
	return nil
}

// Sweep removes what a crash left half written. It is called before all else.
func (c *Cache) Sweep() { sweepParts(c.Dir) }
