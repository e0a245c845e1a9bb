package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/changes"
)

const (
	headQuery = `SELECT ifnull((SELECT max(revision) FROM change), (SELECT compacted FROM state WHERE id = 1))`
	getQuery  = `SELECT revision, data FROM object WHERE kind = ? AND name = ?`
	// One statement reads one snapshot. There is always a row, so that the revision comes also when
	// no object matches.
	listQuery = `SELECT (` + headQuery + `), o.name, o.revision, o.data
		FROM state s LEFT JOIN object o ON o.kind = ? AND o.name >= ? AND o.name < ?
		WHERE s.id = 1 ORDER BY o.name`
	olderQuery = `SELECT revision, at, kind, name, data FROM change WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?`
)

// A watcher that is behind reads as many changes at once, or until their data is as large.
const (
	olderCount = 256
	olderBytes = 4 << 20
)

// reads are the connections that read, with their statements.
type reads struct {
	db               *sql.DB
	get, list, older *sql.Stmt
}

func openReads(path string, config Config) (reads, error) {
	db, err := connect(path, config, config.Readers, "query_only(ON)")
	if err != nil {
		return reads{}, err
	}
	r := reads{db: db}
	for query, statement := range map[string]**sql.Stmt{getQuery: &r.get, listQuery: &r.list, olderQuery: &r.older} {
		if *statement, err = db.Prepare(query); err != nil { //nolint:sqlclosecheck // they end with the database
			return reads{}, errors.Join(failed("open store", err), db.Close())
		}
	}
	return r, nil
}

func (r reads) close() error {
	if r.db == nil {
		return nil
	}
	return r.db.Close()
}

func (r reads) head() (head maru.Revision, err error) {
	if err := r.db.QueryRow(headQuery).Scan(&head); err != nil {
		return 0, failed("open store", err)
	}
	return head, nil
}

// Get implements [maru.Store].
func (s *Store) Get(ctx context.Context, key maru.Key) (maru.Object, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return maru.Object{}, err
	}
	defer end()
	object := maru.Object{Key: key}
	// Not with ctx: it would cost a goroutine for a read that takes microseconds.
	err = s.reads.get.QueryRow(key.Kind, key.Name).Scan(&object.Revision, (*[]byte)(&object.Data))
	if errors.Is(err, sql.ErrNoRows) {
		return maru.Object{}, changes.NotFound(key)
	}
	if err != nil {
		return maru.Object{}, failed("get", err)
	}
	return object, nil
}

// List implements [maru.Store].
func (s *Store) List(ctx context.Context, kind, prefix string) (_ []maru.Object, revision maru.Revision, err error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	rows, err := s.reads.list.Query(kind, prefix, after(prefix))
	if err != nil {
		return nil, 0, failed("list", err)
	}
	defer func() { _ = rows.Close() }()
	var objects []maru.Object
	for rows.Next() {
		object := maru.Object{Key: maru.Key{Kind: kind}}
		var name sql.NullString
		var changed sql.NullInt64
		if err := rows.Scan(&revision, &name, &changed, (*[]byte)(&object.Data)); err != nil {
			return nil, 0, failed("list", err)
		}
		if !name.Valid {
			continue
		}
		object.Name, object.Revision = name.String, maru.Revision(changed.Int64)
		objects = append(objects, object)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, failed("list", err)
	}
	return objects, revision, nil
}

// after gives the text that sorts behind all names with the prefix and before all others. It need not
// be valid UTF-8: SQLite compares bytes.
func after(prefix string) string {
	if prefix == "" {
		return "\xff"
	}
	end := []byte(prefix)
	end[len(end)-1]++ // a byte of UTF-8 is never 0xff
	return string(end)
}

// Watch implements [maru.Store].
func (s *Store) Watch(ctx context.Context, from maru.Revision) iter.Seq2[maru.StoreEvent, error] {
	return func(yield func(maru.StoreEvent, error) bool) {
		if from > s.feed.Head() {
			// A commit can be seen in the file just before the feed has it.
			s.writes.settle()
		}
		s.feed.Watch(ctx, from, s.older)(yield)
	}
}

func (s *Store) older(ctx context.Context, from maru.Revision) ([]maru.StoreEvent, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	// Up to what the feed has: the file can be ahead of it for a moment.
	rows, err := s.reads.older.Query(from, s.feed.Head(), olderCount)
	if err != nil {
		return nil, failed("watch", err)
	}
	defer func() { _ = rows.Close() }()
	var events []maru.StoreEvent
	for bytes := 0; bytes < olderBytes && rows.Next(); {
		var e maru.StoreEvent
		var at int64
		if err := rows.Scan(&e.Revision, &at, &e.Key.Kind, &e.Key.Name, (*[]byte)(&e.Data)); err != nil {
			return nil, failed("watch", err)
		}
		e.At = time.Unix(0, at).UTC()
		events = append(events, e)
		bytes += len(e.Data)
	}
	if err := rows.Err(); err != nil {
		return nil, failed("watch", err)
	}
	if len(events) == 0 {
		return nil, changes.Compacted(from, s.feed.Head())
	}
	if events[0].Revision != from+1 {
		return nil, changes.Compacted(from, events[0].Revision-1)
	}
	return events, nil
}
