// Package storetest is the suite that every implementation of [maru.Store] passes.
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
)

// Store is a store that can be closed, and read as a whole.
type Store interface {
	maru.Store
	Close() error
	// All gives every object as it was at one moment, sorted by kind and name.
	All(ctx context.Context) iter.Seq2[maru.Object, error]
}

// Open opens the store that is kept in the folder, which is empty at first. A durable store finds
// there what an earlier one, closed or killed, has acknowledged.
type Open func(t testing.TB, folder string) Store

// Run runs what every store must do.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"Get", testGet},
		{"List", testList},
		{"Expect", testExpect},
		{"Commit is all or nothing", testAtomic},
		{"Invalid", testInvalid},
		{"Delete", testDelete},
		{"Values", testValues},
		{"Closed", testClosed},
		{"Context", testContext},
		{"Watch", testWatch},
		{"Watch while writing", testWatchWhileWriting},
		{"Watch is prompt", testWatchPrompt},
		{"Watch far behind", testWatchFarBehind},
		{"Compact", testCompact},
		{"Compact by age", testCompactByAge},
		{"Compact under watchers", testCompactUnderWatchers},
		{"Compare and swap from many", testCounters},
		{"Readers see whole commits", testWholeCommits},
		{"All", testAll},
		{"All while writing", testAllWhileWriting},
		{"Model", testModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, opened(t, open, t.TempDir())) })
	}
}

// RunDurable runs what stores that outlive their process must do besides.
func RunDurable(t *testing.T, open Open) {
	t.Run("Reopen", func(t *testing.T) { testReopen(t, open) })
	t.Run("Reopened model", func(t *testing.T) { testReopenedModel(t, open) })
}

func opened(t testing.TB, open Open, folder string) Store {
	t.Helper()
	store := open(t, folder)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return store
}

func key(kind, name string) maru.Key { return maru.Key{Kind: kind, Name: name} }

func set(k maru.Key, expect maru.Revision, data string) maru.Change {
	return maru.Change{Key: k, Expect: expect, Data: json.RawMessage(data)}
}

func unset(k maru.Key, expect maru.Revision) maru.Change { return maru.Change{Key: k, Expect: expect} }

func commit(t testing.TB, s Store, changes ...maru.Change) maru.Revision {
	t.Helper()
	revision, err := s.Commit(t.Context(), changes...)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return revision
}

func wantKind(t testing.TB, what string, err error, want maru.Kind) {
	t.Helper()
	if got := maru.KindOf(err); got != want {
		t.Errorf("%s: error of kind %q (%v), want %q", what, got, err, want)
	}
}

func list(t testing.TB, s Store, kind, prefix string) ([]maru.Object, maru.Revision) {
	t.Helper()
	objects, revision, err := s.List(t.Context(), kind, prefix)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return objects, revision
}

func names(objects []maru.Object) []string {
	all := []string{}
	for _, o := range objects {
		all = append(all, o.Name)
	}
	return all
}

// collect takes n events after from, or what comes before an error.
func collect(t testing.TB, s Store, from maru.Revision, n int) ([]maru.StoreEvent, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, fmt.Errorf("fewer than %d events came", n))
	defer cancel()
	var events []maru.StoreEvent
	if n == 0 {
		return nil, nil
	}
	for event, err := range s.Watch(ctx, from) {
		if err != nil {
			return events, err
		}
		if events = append(events, event); len(events) == n {
			return events, nil
		}
	}
	return events, context.Cause(ctx)
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func testGet(t *testing.T, s Store) {
	k := key("app", "default/production/shop")
	_, err := s.Get(t.Context(), k)
	wantKind(t, "get what never was", err, maru.NotFound)

	first := commit(t, s, set(k, 0, `{"a":1}`))
	if first != 1 {
		t.Errorf("the first change has revision %d", first)
	}
	second := commit(t, s, set(k, first, `{"a":2}`))
	if second != 2 {
		t.Errorf("the second change has revision %d", second)
	}
	object, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "object", object, maru.Object{Key: k, Revision: second, Data: json.RawMessage(`{"a":2}`)})

	if same := commit(t, s, set(k, maru.Any, `{"a":2}`)); same != 3 {
		t.Errorf("writing the same again gave revision %d: it is a change", same)
	}
	if none := commit(t, s); none != 3 {
		t.Errorf("an empty commit gave revision %d", none)
	}
	_, err = s.Get(t.Context(), key("release", k.Name))
	wantKind(t, "get the name in another kind", err, maru.NotFound)
}

func testList(t *testing.T, s Store) {
	objects, revision := list(t, s, "app", "")
	if len(objects) != 0 || revision != 0 {
		t.Errorf("an empty store lists %v at %d", objects, revision)
	}
	for _, name := range []string{"b", "a/b", "a", "a/b/c", "a/c", "A", "a-", "a0", "é", "日本", "a%", "a_", "aé", "a\U0010FFFF", "a\U0010FFFFz"} {
		commit(t, s, set(key("app", name), 0, `1`))
		commit(t, s, set(key("apple", name), 0, `2`))
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "A", "a%", "a_", "b", "é", "日", "c", "a\U0010FFFF", "\U0010FFFF"} {
		objects, revision := list(t, s, "app", prefix)
		if revision != 30 {
			t.Errorf("prefix %q: the list shows revision %d", prefix, revision)
		}
		var want []string
		all, _ := list(t, s, "app", "")
		for _, name := range names(all) {
			if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
				want = append(want, name)
			}
		}
		if !slices.IsSorted(want) || !slices.Equal(names(objects), want) {
			t.Errorf("prefix %q: listed %q, want %q, sorted", prefix, names(objects), want)
		}
	}
	if objects, _ := list(t, s, "ap", ""); len(objects) != 0 {
		t.Errorf("kind %q lists %q", "ap", names(objects))
	}
}

func testExpect(t *testing.T, s Store) {
	k, ctx := key("app", "a"), t.Context()
	_, err := s.Commit(ctx, set(k, 1, `1`))
	wantKind(t, "expect a revision of what is not there", err, maru.Conflict)
	_, err = s.Commit(ctx, unset(k, 1))
	wantKind(t, "delete, expecting a revision of what is not there", err, maru.Conflict)
	at := commit(t, s, set(k, 0, `1`))
	_, err = s.Commit(ctx, set(k, 0, `2`))
	wantKind(t, "expect nothing where something is", err, maru.Conflict)
	_, err = s.Commit(ctx, unset(k, 0))
	wantKind(t, "delete, expecting nothing where something is", err, maru.Conflict)
	_, err = s.Commit(ctx, set(k, at+1, `2`))
	wantKind(t, "expect a later revision", err, maru.Conflict)
	next := commit(t, s, set(k, at, `2`))
	_, err = s.Commit(ctx, set(k, at, `3`))
	wantKind(t, "expect an earlier revision", err, maru.Conflict)
	if next != at+1 {
		t.Errorf("a refused commit took a revision: %d after %d", next, at)
	}
	commit(t, s, unset(k, next))
	_, err = s.Commit(ctx, set(k, next, `4`))
	wantKind(t, "expect the revision before deletion", err, maru.Conflict)
	commit(t, s, set(k, 0, `5`))
}

func testAtomic(t *testing.T, s Store) {
	a, b, c := key("app", "a"), key("app", "b"), key("app", "c")
	at := commit(t, s, set(a, 0, `1`), set(b, 0, `1`))
	if at != 2 {
		t.Errorf("two changes gave revision %d", at)
	}
	_, err := s.Commit(t.Context(), set(a, maru.Any, `2`), unset(b, 2), set(c, 7, `2`))
	wantKind(t, "the last of three does not hold", err, maru.Conflict)
	objects, revision := list(t, s, "app", "")
	diff(t, "objects", objects, []maru.Object{{Key: a, Revision: 1, Data: json.RawMessage(`1`)}, {Key: b, Revision: 2, Data: json.RawMessage(`1`)}})
	if revision != at {
		t.Errorf("a refused commit moved the store from %d to %d", at, revision)
	}
	at = commit(t, s, set(c, 0, `3`), unset(a, 1), set(b, 2, `3`))
	objects, _ = list(t, s, "app", "")
	diff(t, "objects", objects, []maru.Object{{Key: b, Revision: 5, Data: json.RawMessage(`3`)}, {Key: c, Revision: 3, Data: json.RawMessage(`3`)}})
	if at != 5 {
		t.Errorf("three more changes gave revision %d", at)
	}
}

func testInvalid(t *testing.T, s Store) {
	k := key("app", "a")
	for name, changes := range map[string][]maru.Change{
		"no kind":              {set(key("", "a"), 0, `1`)},
		"no name":              {set(key("app", ""), 0, `1`)},
		"control character":    {set(key("app", "a\x00b"), 0, `1`)},
		"name is not UTF-8":    {set(key("app", "a\xff"), 0, `1`)},
		"kind is not UTF-8":    {set(key("app\xff", "a"), 0, `1`)},
		"not JSON":             {set(k, 0, `{`)},
		"empty data":           {set(k, 0, ``)},
		"twice":                {set(k, 0, `1`), set(k, 1, `2`)},
		"twice, one a delete":  {unset(k, maru.Any), set(k, maru.Any, `2`)},
		"impossible revision":  {set(k, -2, `1`)},
		"second one is at odd": {set(k, 0, `1`), set(key("app", "b"), 0, `nul`)},
	} {
		_, err := s.Commit(t.Context(), changes...)
		wantKind(t, name, err, maru.Invalid)
	}
	if objects, revision := list(t, s, "app", ""); len(objects) != 0 || revision != 0 {
		t.Errorf("refused commits left %v at %d", objects, revision)
	}
	_, err := collect(t, s, -1, 1)
	wantKind(t, "watch from before the beginning", err, maru.Invalid)
	wantKind(t, "keep less than nothing", s.Compact(t.Context(), time.Now(), -1), maru.Invalid)
}

func testDelete(t *testing.T, s Store) {
	k := key("app", "a")
	for _, expect := range []maru.Revision{maru.Any, 0} {
		if at := commit(t, s, unset(k, expect)); at != 0 {
			t.Errorf("deleting what is not there gave revision %d", at)
		}
	}
	commit(t, s, set(k, 0, `1`))
	if at := commit(t, s, unset(k, maru.Any), unset(key("app", "b"), 0)); at != 2 {
		t.Errorf("one effective change of two gave revision %d", at)
	}
	_, err := s.Get(t.Context(), k)
	wantKind(t, "get what was deleted", err, maru.NotFound)
	if objects, _ := list(t, s, "app", ""); len(objects) != 0 {
		t.Errorf("listed %v", objects)
	}
}
