package maru

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Revision counts the changes of a store, from 1. Every committed change has the next one.
type Revision int64

// Key names an object. Name is the object's path within its kind: scope parts first, joined by "/".
type Key struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Object is a stored value. Data is JSON, owned by whoever owns the kind.
type Object struct {
	Key
	Revision Revision        `json:"revision"` // of its last change
	Data     json.RawMessage `json:"data"`
}

// Change is one write of a [Store.Commit].
type Change struct {
	Key    Key
	Data   json.RawMessage // nil deletes the object
	Expect Revision        // the object's revision now; 0: it must not exist; Any: whatever is there
}

// Any as a Change's Expect skips the comparison.
const Any Revision = -1

// StoreEvent is one change as a watcher sees it. Data is nil when the object was deleted.
type StoreEvent struct {
	Revision Revision
	Key      Key
	Data     json.RawMessage
	At       time.Time
}

// Store keeps objects by kind and name, each with a revision.
//
// Commit is atomic, and has happened on disk when it returns nil. Concurrent use is fine. Slices given
// to or got from a store are not written to afterwards by either side. Errors: NotFound, Conflict (an
// Expect did not hold: nothing was changed), Invalid, and Unavailable after Close.
type Store interface {
	// Get gives the object, or NotFound.
	Get(ctx context.Context, key Key) (Object, error)
	// List gives the objects of a kind whose name begins with prefix, sorted by name, and the revision
	// of the store that the list shows.
	List(ctx context.Context, kind, prefix string) ([]Object, Revision, error)
	// Commit makes all changes or none, and gives the revision of the last. No key may occur twice.
	// Deleting what is not there is no change, unless Expect says otherwise.
	Commit(ctx context.Context, changes ...Change) (Revision, error)
	// Watch gives every change after from, in order, then those to come, until ctx ends. When changes
	// after from were compacted it yields Exhausted first and ends: list again and watch from there.
	Watch(ctx context.Context, from Revision) iter.Seq2[StoreEvent, error]
	// Compact forgets changes (not objects) that are older than before, keeping at least the last keep.
	Compact(ctx context.Context, before time.Time, keep int) error
}
