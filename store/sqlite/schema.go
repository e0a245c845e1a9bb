package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/crash"
)

// applicationID marks the file as a store of Maru's: "maru".
const applicationID = 0x6d617275

// schema leads from each version of the file to the next: schema[0] makes version 1 of an empty
// file. A step that was published never changes; new ones are added.
var schema = []string{`
	CREATE TABLE object (
		kind     TEXT    NOT NULL,
		name     TEXT    NOT NULL,
		revision INTEGER NOT NULL,
		data     BLOB    NOT NULL
	) STRICT;
	CREATE UNIQUE INDEX object_name ON object (kind, name);

	-- Every change since the last compaction, without a gap.
	CREATE TABLE change (
		revision INTEGER PRIMARY KEY,
		at       INTEGER NOT NULL, -- nanoseconds since 1970
		kind     TEXT    NOT NULL,
		name     TEXT    NOT NULL,
		data     BLOB              -- NULL: deleted
	) STRICT;

	-- One row. The store's revision is that of the last change, or compacted if there is none.
	CREATE TABLE state (
		id        INTEGER PRIMARY KEY CHECK (id = 1),
		compacted INTEGER NOT NULL -- changes up to this one are forgotten
	) STRICT;
	INSERT INTO state VALUES (1, 0);
`}

// migrate brings the file to the last version of the schema. A file that holds something is copied
// to PATH.vN.backup before.
func migrate(path string, config Config, schema []string) (err error) {
	// auto_vacuum can only be chosen before there is a table.
	db, err := connect(path, config, 1, "auto_vacuum(INCREMENTAL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return failed("open store", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	version, err := identify(ctx, conn, path)
	if err != nil {
		return err
	}
	if version == len(schema) {
		return nil
	}
	if version > len(schema) {
		return tooNew(path, version, len(schema))
	}
	if version > 0 {
		if err := keep(ctx, conn, fmt.Sprintf("%s.v%d.backup", path, version)); err != nil {
			return err
		}
	}
	steps := append([]string{"BEGIN IMMEDIATE"}, schema[version:]...)
	steps = append(steps,
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", len(schema)))
	for _, step := range steps {
		if _, err := conn.ExecContext(ctx, step); err != nil {
			return failed(fmt.Sprintf("migrate store from version %d to %d", version, len(schema)), err)
		}
	}
	crash.Point("store.migrate.before")
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return failed("migrate store", err)
	}
	crash.Point("store.migrate.after")
	return atomicfile.SyncDir(filepath.Dir(path))
}

func tooNew(path string, version, known int) error {
	return maru.WithHint(maru.Errorf(maru.Unsupported, "open store: %s has version %d, and this Maru knows up to %d", path, version, known),
		fmt.Sprintf("it was written by a newer Maru: install that one, or put back a copy from before it was migrated, such as PATH.v%d.backup", known))
}

// identify gives the version of the file's schema; 0 for an empty file.
func identify(ctx context.Context, conn *sql.Conn, path string) (version int, err error) {
	var application, tables int
	err = conn.QueryRowContext(ctx,
		"SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)",
	).Scan(&version, &application, &tables)
	if err != nil {
		return 0, failed("open store", err)
	}
	if application == applicationID || application == 0 && version == 0 && tables == 0 {
		return version, nil
	}
	return 0, maru.Errorf(maru.Invalid, "open store: %s is a SQLite file, but not Maru's state", path)
}

// keep copies the database into the file, durably.
func keep(ctx context.Context, conn *sql.Conn, path string) error {
	temporary, err := reserve(path)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary) }()
	if _, err := conn.ExecContext(ctx, "VACUUM INTO ?", temporary); err != nil {
		return failed("copy store", err)
	}
	if err := syncFile(temporary); err != nil {
		return maru.Errorf(maru.Internal, "copy store: %w", err)
	}
	crash.Point("store.keep.before")
	if err := os.Rename(temporary, path); err != nil {
		return maru.Errorf(maru.Internal, "copy store: %w", err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
		return maru.Errorf(maru.Internal, "copy store: %w", err)
	}
	crash.Point("store.keep.after")
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// temporaries is the part of a name that marks files which only live during a call.
const temporaries = ".temporary-"

// reserve makes an empty file beside path, for its owner only.
func reserve(path string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+temporaries+"*")
	if err != nil {
		return "", maru.Errorf(maru.Internal, "copy store: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", maru.Errorf(maru.Internal, "copy store: %w", err)
	}
	return f.Name(), nil
}

// sweep removes the temporary files of a process that was killed.
func sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), filepath.Base(path)) && strings.Contains(entry.Name(), temporaries) {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), entry.Name())))
		}
	}
	return err
}
