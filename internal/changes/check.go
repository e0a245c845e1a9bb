// Package changes holds what stores have in common: the rules that changes obey, and the feed that
// leads committed ones to watchers.
package changes

import (
	"encoding/json"
	"unicode"
	"unicode/utf8"

	"github.com/marucloud/maru"
)

// Check tells whether the changes of one commit are well formed: keys with kind and name, none twice,
// data that is JSON, a possible Expect. The error is of kind Invalid.
func Check(changes []maru.Change) error {
	seen := make(map[maru.Key]bool, len(changes))
	for _, c := range changes {
		if err := CheckKey(c.Key); err != nil {
			return err
		}
		if seen[c.Key] {
			return maru.Errorf(maru.Invalid, "commit: %s %q occurs twice", c.Key.Kind, c.Key.Name)
		}
		seen[c.Key] = true
		if c.Data != nil && !json.Valid(c.Data) {
			return maru.Errorf(maru.Invalid, "commit: the data of %s %q is not JSON", c.Key.Kind, c.Key.Name)
		}
		if c.Expect < maru.Any {
			return maru.Errorf(maru.Invalid, "commit: %s %q expects revision %d", c.Key.Kind, c.Key.Name, c.Expect)
		}
	}
	return nil
}

// CheckKey tells whether the key has a kind and a name of printable characters. The error is of kind
// Invalid.
func CheckKey(key maru.Key) error {
	if !printable(key.Kind) || !printable(key.Name) {
		return maru.Errorf(maru.Invalid, "kind %q, name %q: both must be printable text that is not empty", key.Kind, key.Name)
	}
	return nil
}

func printable(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// CheckExpect compares what a change expects with the revision that its object has (0: none). The
// error is of kind Conflict.
func CheckExpect(c maru.Change, now maru.Revision) error {
	switch {
	case c.Expect == maru.Any || c.Expect == now:
		return nil
	case c.Expect == 0:
		return maru.Errorf(maru.Conflict, "%s %q exists already", c.Key.Kind, c.Key.Name)
	case now == 0:
		return maru.Errorf(maru.Conflict, "%s %q is gone", c.Key.Kind, c.Key.Name)
	}
	return maru.Errorf(maru.Conflict, "%s %q changed meanwhile: it has revision %d, not %d", c.Key.Kind, c.Key.Name, now, c.Expect)
}

// NotFound is the error for an object that does not exist.
func NotFound(key maru.Key) error {
	return maru.Errorf(maru.NotFound, "%s %q does not exist", key.Kind, key.Name)
}

// Closed is the error for a store that is closed.
func Closed() error {
	return maru.Errorf(maru.Unavailable, "the store is closed")
}

// Compacted is the error for a watcher whose next change was forgotten.
func Compacted(from, oldest maru.Revision) error {
	return maru.Errorf(maru.Exhausted, "changes after revision %d were forgotten: those after %d are kept", from, oldest)
}
