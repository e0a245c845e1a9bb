package sqlite

import (
	"context"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
)

// compactStep is how many changes are forgotten in one transaction, so that commits wait little.
const compactStep = 500

// freeStep is how many pages are given back to the file system after such a transaction.
const freeStep = 256

// Compact implements [maru.Store].
func (s *Store) Compact(ctx context.Context, before time.Time, keep int) error {
	if keep < 0 {
		return maru.Errorf(maru.Invalid, "compact: keep the last %d changes", keep)
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	upTo, at, err := s.compactTo(before, keep)
	if err != nil {
		return err
	}
	for at < upTo {
		if ctx.Err() != nil {
			return maru.Errorf(maru.Interrupted, "compact: %w", context.Cause(ctx))
		}
		at = min(at+compactStep, upTo)
		if err := s.writes.forget(at); err != nil {
			return err
		}
		s.feed.Forget(at)
	}
	return nil
}

// compactTo gives the last change to forget, and the last that is forgotten.
func (s *Store) compactTo(before time.Time, keep int) (upTo, at maru.Revision, err error) {
	err = s.reads.db.QueryRow(
		`SELECT ifnull((SELECT max(revision) FROM change WHERE at < ? AND revision <= (`+headQuery+`) - ?), 0), (SELECT compacted FROM state WHERE id = 1)`,
		before.UnixNano(), keep).Scan(&upTo, &at)
	if err != nil {
		return 0, 0, failed("compact", err)
	}
	return upTo, at, nil
}

// forget deletes the changes up to and with upTo.
func (w *writer) forget(upTo maru.Revision) error {
	w.turn <- struct{}{}
	defer w.settled()
	if _, err := w.begin.Exec(); err != nil {
		return failed("compact", err)
	}
	ctx := context.Background()
	for _, query := range []string{`DELETE FROM change WHERE revision <= ?`, `UPDATE state SET compacted = ? WHERE id = 1`} {
		if _, err := w.conn.ExecContext(ctx, query, int64(upTo)); err != nil {
			return w.abort(err)
		}
	}
	crash.Point("store.compact.before")
	if _, err := w.commit.Exec(); err != nil {
		return w.abort(err)
	}
	crash.Point("store.compact.after")
	return w.free(ctx)
}

// free gives pages that nothing uses back to the file system.
func (w *writer) free(ctx context.Context) (err error) {
	rows, err := w.conn.QueryContext(ctx, `PRAGMA incremental_vacuum(`+maru.Itoa(freeStep)+`)`)
	if err != nil {
		return failed("compact", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		return failed("compact", err)
	}
	return nil
}
