package sqlite

import (
	"errors"

	"modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/marucloud/maru"
)

// failed gives SQLite's error a kind, and a hint where a person can do something.
func failed(operation string, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return maru.Errorf(maru.Internal, "%s: %w", operation, err)
	}
	switch e.Code() & 0xff {
	case code.SQLITE_FULL:
		return maru.WithHint(maru.Errorf(maru.Exhausted, "%s: %w", operation, err),
			"the disk that holds Maru's state is full: free some space; nothing was lost")
	case code.SQLITE_BUSY, code.SQLITE_LOCKED:
		return maru.Errorf(maru.Unavailable, "%s: %w", operation, err)
	case code.SQLITE_CORRUPT, code.SQLITE_NOTADB:
		return maru.WithHint(maru.Errorf(maru.Internal, "%s: %w", operation, err),
			"the file of Maru's state is damaged: check the disk, then restore a backup with maru restore")
	}
	return maru.Errorf(maru.Internal, "%s: %w", operation, err)
}
