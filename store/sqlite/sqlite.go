// Package sqlite keeps objects in one SQLite file. A commit that has returned is on the disk: the
// write-ahead log is synced before, and the folder once when the file is made.
//
// One connection writes, some read. Commits that come while another is being synced share the next
// sync. Watchers are served from memory; those further behind read the log of changes in the file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"modernc.org/sqlite"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/changes"
)

// Config tunes a store. The zero value is the default.
type Config struct {
	Readers     int // connections that read at the same time; 0: 4
	CacheBytes  int // page cache of each connection; 0: 2 MiB
	RecentCount int // changes kept in memory for watchers; 0: 4096
	RecentBytes int // their data; 0: 4 MiB
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Readers < 0 || c.CacheBytes < 0 || c.RecentCount < 0 || c.RecentBytes < 0 {
		return maru.Errorf(maru.Invalid, "store: a number in %+v is below zero", c)
	}
	return nil
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Readers, 4}, {&c.CacheBytes, 2 << 20}, {&c.RecentCount, 4096}, {&c.RecentBytes, 4 << 20}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

// Store is a [maru.Store] in a file. Its methods are safe for concurrent use.
type Store struct {
	path   string
	lock   *lock
	reads  reads
	writes *writer
	feed   *changes.Feed

	mu     sync.Mutex
	active sync.WaitGroup // what Close waits for; grows only under mu
	closed bool
}

var _ maru.Store = (*Store)(nil)

// Open opens the store in the file, and makes it and its folder if there is none. Only one process
// can have it open: Conflict. A file of an older Maru is migrated, and a copy of it kept beside it; one of a
// newer Maru is Unsupported.
func Open(path string, config Config) (*Store, error) {
	return open(path, config, schema)
}

func open(path string, config Config, schema []string) (_ *Store, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	if err := atomicfile.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	s := &Store{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if s.lock, err = acquire(path + ".lock"); err != nil {
		return nil, err
	}
	if err := sweep(path); err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	if err := create(path); err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	if err := migrate(path, config, schema); err != nil {
		return nil, err
	}
	if s.reads, err = openReads(path, config); err != nil {
		return nil, err
	}
	head, err := s.reads.head()
	if err != nil {
		return nil, err
	}
	s.feed = changes.NewFeed(head, changes.Limits{Events: config.RecentCount, Bytes: config.RecentBytes})
	if s.writes, err = openWriter(path, config, s.feed); err != nil {
		return nil, err
	}
	return s, nil
}

// create makes the file, for its owner only. SQLite gives the files beside it the same mode.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Close waits for what is under way, ends all watching and closes the file.
func (s *Store) Close() error {
	if s.feed != nil {
		s.feed.Close()
	}
	s.mu.Lock()
	before := s.closed
	s.closed = true
	s.mu.Unlock()
	if before {
		return nil
	}
	s.active.Wait()
	return s.release()
}

func (s *Store) release() error {
	var failed []error
	if s.writes != nil {
		failed = append(failed, s.writes.close())
	}
	failed = append(failed, s.reads.close())
	if s.lock != nil {
		failed = append(failed, s.lock.release())
	}
	return errors.Join(failed...)
}

// begin tells whether the store can be used, and keeps it open until end.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	if ctx.Err() != nil {
		return nil, maru.Errorf(maru.Interrupted, "store: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, changes.Closed()
	}
	s.active.Add(1)
	return s.active.Done, nil
}

// connect opens a pool of connections to the file.
func connect(path string, config Config, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": append([]string{
		"busy_timeout(10000)",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"journal_size_limit(16777216)",
		"trusted_schema(OFF)",
		"cell_size_check(ON)",
		"temp_store(MEMORY)",
		"cache_size(-" + strconv.Itoa(config.CacheBytes>>10) + ")",
	}, pragmas...)}
	source := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(source.String())
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "open store: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}
