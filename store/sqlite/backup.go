package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// Backup writes the store as it is at one moment, as a SQLite file, while it is in use. Meanwhile it
// takes as much space again beside the store.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	temporary, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary) }()
	f, err := os.Open(temporary)
	if err != nil {
		return maru.Errorf(maru.Internal, "back up store: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(w, &interruptible{ctx, f}); err != nil {
		return maru.Errorf(maru.KindOf(err), "back up store: %w", err)
	}
	return nil
}

// snapshot copies the store into a file, whose name it gives.
func (s *Store) snapshot(ctx context.Context) (path string, err error) {
	end, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	if path, err = reserve(s.path); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	// A connection of its own: it takes long, and readers should not wait for it.
	db, err := connect(s.path, Config{}.withDefaults(), 1)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		if ctx.Err() != nil {
			return "", maru.Errorf(maru.Interrupted, "back up store: %w", context.Cause(ctx))
		}
		return "", failed("back up store", err)
	}
	return path, nil
}

// All gives every object as it was at one moment, sorted by kind and name, while the store is in use.
func (s *Store) All(ctx context.Context) iter.Seq2[maru.Object, error] {
	return func(yield func(maru.Object, error) bool) {
		end, err := s.begin(ctx)
		if err != nil {
			yield(maru.Object{}, err)
			return
		}
		defer end()
		// A connection of its own: it takes long, and readers should not wait for it.
		db, err := connect(s.path, Config{}.withDefaults(), 1)
		if err != nil {
			yield(maru.Object{}, err)
			return
		}
		defer func() { _ = db.Close() }() // it only read
		rows, err := db.Query(`SELECT kind, name, revision, data FROM object ORDER BY kind, name`)
		if err != nil {
			yield(maru.Object{}, failed("read store", err))
			return
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var o maru.Object
			err := rows.Scan(&o.Kind, &o.Name, &o.Revision, (*[]byte)(&o.Data))
			switch {
			case ctx.Err() != nil:
				err = maru.Errorf(maru.Interrupted, "read store: %w", context.Cause(ctx))
			case err != nil:
				err = failed("read store", err)
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(maru.Object{}, failed("read store", err))
		}
	}
}

// interruptible is a reader that fails once its time is up.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, maru.Errorf(maru.Interrupted, "%w", context.Cause(r.ctx))
	}
	return r.from.Read(p)
}

// Restore puts what Backup wrote where Open will find it, durably. It gives Exists if there is a store,
// and Invalid if what comes is not a sound one; then nothing is left there.
func Restore(ctx context.Context, path string, r io.Reader) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return maru.Errorf(maru.Exists, "restore store: %s is there already", path)
	}
	folder := filepath.Dir(path)
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return maru.Errorf(maru.Internal, "restore store: %w", err)
	}
	temporary, err := reserve(path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary) }()
	if err := fill(ctx, temporary, r); err != nil {
		return maru.Errorf(maru.KindOf(err), "restore store: %w", err)
	}
	if err := check(ctx, temporary); err != nil {
		return maru.Errorf(maru.KindOf(err), "restore store: %w", err)
	}
	// What a store that was deleted has left there would be played onto this one.
	for _, beside := range []string{path + "-wal", path + "-shm", path + "-journal"} {
		if err := atomicfile.Remove(beside); err != nil {
			return maru.Errorf(maru.Internal, "restore store: %w", err)
		}
	}
	if err := os.Rename(temporary, path); err != nil {
		return maru.Errorf(maru.Internal, "restore store: %w", err)
	}
	return atomicfile.SyncDir(folder)
}

func fill(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &interruptible{ctx, r})
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// check reads the whole file and tells whether it is a sound store that this Maru knows.
func check(ctx context.Context, path string) (err error) {
	source := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: "immutable=1&_query_only=1&_defensive=1"}
	connector, err := sqlite.NewConnector(source.String())
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return maru.Errorf(maru.Invalid, "it is damaged: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var verdict string
	if err := conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return maru.Errorf(maru.Invalid, "it is damaged: %w", err)
	}
	if verdict != "ok" {
		return maru.Errorf(maru.Invalid, "it is damaged: %s", verdict)
	}
	version, err := identify(ctx, conn, path)
	if err != nil {
		return err
	}
	if version == 0 {
		return maru.Errorf(maru.Invalid, "it is empty")
	}
	if version > len(schema) {
		return tooNew(path, version, len(schema))
	}
	return nil
}
