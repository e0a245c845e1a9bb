package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/changes"
	"github.com/marucloud/maru/internal/crash"
)

// writer is the one connection that writes. Whoever holds the turn writes for all who wait, in one
// transaction, so that they share one sync of the disk.
type writer struct {
	db   *sql.DB
	conn *sql.Conn
	feed *changes.Feed
	turn chan struct{} // holds one while somebody writes

	begin, commit, rollback       *sql.Stmt
	revision, put, remove, append *sql.Stmt

	mu     sync.Mutex
	queue  []*request
	closed bool
}

// request is a Commit under way.
type request struct {
	changes []maru.Change
	done    chan struct{} // closed when revision and err are final

	events   []maru.StoreEvent
	revision maru.Revision
	err      error
}

func openWriter(path string, config Config, feed *changes.Feed) (*writer, error) {
	db, err := connect(path, config, 1)
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(failed("open store", err), db.Close())
	}
	w := &writer{db: db, conn: conn, feed: feed, turn: make(chan struct{}, 1)}
	for _, s := range []struct {
		statement **sql.Stmt
		query     string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.rollback, `ROLLBACK`},
		{&w.revision, `SELECT revision FROM object WHERE kind = ? AND name = ?`},
		{&w.put, `INSERT INTO object (kind, name, revision, data) VALUES (?, ?, ?, ?)
			ON CONFLICT (kind, name) DO UPDATE SET revision = excluded.revision, data = excluded.data`},
		{&w.remove, `DELETE FROM object WHERE kind = ? AND name = ?`},
		{&w.append, `INSERT INTO change (revision, at, kind, name, data) VALUES (?, ?, ?, ?, ?)`},
	} {
		if *s.statement, err = conn.PrepareContext(context.Background(), s.query); err != nil { //nolint:sqlclosecheck // they end with the connection
			return nil, errors.Join(failed("open store", err), conn.Close(), db.Close())
		}
	}
	return w, nil
}

func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.turn <- struct{}{}
	defer w.settled()
	w.lead()
	return errors.Join(w.conn.Close(), w.db.Close())
}

// settle waits until no commit is half done.
func (w *writer) settle() {
	w.turn <- struct{}{}
	w.settled()
}

func (w *writer) settled() { <-w.turn }

// Commit implements [maru.Store].
func (s *Store) Commit(ctx context.Context, batch ...maru.Change) (maru.Revision, error) {
	if err := changes.Check(batch); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, maru.Errorf(maru.Interrupted, "commit: %w", context.Cause(ctx))
	}
	r := &request{changes: batch, done: make(chan struct{})}
	if err := s.writes.enqueue(r); err != nil {
		return 0, err
	}
	select {
	case s.writes.turn <- struct{}{}:
		s.writes.lead()
		s.writes.settled()
	case <-r.done:
	case <-ctx.Done():
		if s.writes.withdraw(r) {
			return 0, maru.Errorf(maru.Interrupted, "commit: %w", context.Cause(ctx))
		}
	}
	<-r.done
	return r.revision, r.err
}

func (w *writer) enqueue(r *request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return changes.Closed()
	}
	w.queue = append(w.queue, r)
	return nil
}

// withdraw takes back a request that nobody has begun to write.
func (w *writer) withdraw(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, r)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

// lead writes all that waits. The caller has the turn.
func (w *writer) lead() {
	w.mu.Lock()
	batch := w.queue
	w.queue = nil
	w.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := w.write(batch)
	for _, r := range batch {
		if err != nil {
			r.revision, r.err = 0, err
		}
		close(r.done)
	}
}

// write commits the requests in one transaction. A conflict fails its request only, any other error
// all of them.
func (w *writer) write(batch []*request) error {
	if _, err := w.begin.Exec(); err != nil {
		return failed("commit", err)
	}
	head, now := w.feed.Head(), time.Now().UTC().Round(0)
	var events []maru.StoreEvent
	for _, r := range batch {
		if err := w.apply(r, head, now); err != nil {
			return w.abort(err)
		}
		head += maru.Revision(len(r.events))
		events = append(events, r.events...)
	}
	if len(events) == 0 {
		return w.abort(nil)
	}
	crash.Point("store.commit.before")
	if _, err := w.commit.Exec(); err != nil {
		return w.abort(err)
	}
	crash.Point("store.commit.after")
	w.feed.Append(events)
	return nil
}

// abort ends the transaction without a change. SQLite may have ended it already.
func (w *writer) abort(cause error) error {
	_, err := w.rollback.Exec()
	switch {
	case cause != nil:
		return failed("commit", cause)
	case err != nil:
		return failed("commit", err)
	}
	return nil
}

// apply writes one request, which comes after head, unless what it expects does not hold.
func (w *writer) apply(r *request, head maru.Revision, now time.Time) error {
	there := make([]bool, len(r.changes))
	for i, c := range r.changes {
		var revision maru.Revision
		err := w.revision.QueryRow(c.Key.Kind, c.Key.Name).Scan(&revision)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		there[i] = err == nil
		if r.err = changes.CheckExpect(c, revision); r.err != nil {
			return nil
		}
	}
	for i, c := range r.changes {
		if c.Data == nil && !there[i] {
			continue
		}
		head++
		if err := w.store(c, head, now); err != nil {
			return err
		}
		r.events = append(r.events, maru.StoreEvent{Revision: head, Key: c.Key, Data: c.Data, At: now})
	}
	r.revision = head
	return nil
}

func (w *writer) store(c maru.Change, revision maru.Revision, now time.Time) (err error) {
	var data any // an untyped nil is NULL
	if c.Data == nil {
		_, err = w.remove.Exec(c.Key.Kind, c.Key.Name)
	} else {
		data = []byte(c.Data)
		_, err = w.put.Exec(c.Key.Kind, c.Key.Name, int64(revision), data)
	}
	if err != nil {
		return err
	}
	_, err = w.append.Exec(int64(revision), now.UnixNano(), c.Key.Kind, c.Key.Name, data)
	return err
}
