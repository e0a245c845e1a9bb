package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/marucloud/maru"
)

// The kinds of object that the server owns. A shared one has an empty app in its scope's name.
const (
	kindEnv    = "env"    // SCOPE: map[string]string, values for ${VAR}
	kindVars   = "ci-env" // SCOPE: map[string]string, variables of workflows
	kindConfig = "config" // SCOPE/NAME: storedConfig
	kindBuild  = "build"  // SCOPE: []builtImage, newest first
)

// kindEvent is owned by the control loops. Names are SCOPE/TIME-ID.
const kindEvent = "event"

// load gives the object and its revision; the zero value and 0 when there is none.
func load[T any](ctx context.Context, store maru.Store, key maru.Key) (T, maru.Revision, error) {
	var v T
	o, err := store.Get(ctx, key)
	if maru.KindOf(err) == maru.NotFound {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, err
	}
	if err := json.Unmarshal(o.Data, &v); err != nil {
		return v, 0, fmt.Errorf("stored %s %q: %w", key.Kind, key.Name, err)
	}
	return v, o.Revision, nil
}

// update changes an object, again when another did at the same time. Change may run several times;
// what it gives is stored, or with keep false the object is deleted.
func update[T any](ctx context.Context, store maru.Store, key maru.Key, change func(T) (next T, keep bool)) error {
	for {
		now, revision, err := load[T](ctx, store, key)
		if err != nil {
			return err
		}
		next, keep := change(now)
		c := maru.Change{Key: key, Expect: revision}
		if keep {
			c.Data = maru.Raw(next)
		} else if revision == 0 {
			return nil
		}
		if _, err := store.Commit(ctx, c); maru.KindOf(err) != maru.Conflict {
			return err
		}
		if ctx.Err() != nil {
			return maru.Errorf(maru.Interrupted, "store %s %q: %w", key.Kind, key.Name, context.Cause(ctx))
		}
	}
}

// scopePrefix begins the names of all objects in the scope, as far as its parts are given in order.
func scopePrefix(s maru.Scope) string {
	var b strings.Builder
	for _, part := range []string{s.Project, s.Environment, s.App} {
		if part == "" {
			break
		}
		b.WriteString(part + "/")
	}
	return b.String()
}

// scopeOfName takes a scope and what follows it from an object's name.
func scopeOfName(name string) (maru.Scope, string, bool) {
	parts := strings.SplitN(name, "/", 4)
	if len(parts) < 3 {
		return maru.Scope{}, "", false
	}
	scope := maru.Scope{Project: parts[0], Environment: parts[1], App: parts[2]}
	if len(parts) == 3 {
		return scope, "", true
	}
	return scope, parts[3], true
}
