package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func testWatch(t *testing.T, s Store) {
	started := time.Now().Add(-time.Second)
	a, b := key("app", "a"), key("release", "b")
	commit(t, s, set(a, 0, `1`))
	commit(t, s, set(b, 0, `2`), unset(a, 1))
	events, err := collect(t, s, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		at := events[i].At
		if at.Before(started) || at.After(time.Now().Add(time.Second)) || at.Location() != time.UTC {
			t.Errorf("event %d happened at %v", i, at)
		}
		events[i].At = time.Time{}
	}
	diff(t, "events", events, []maru.StoreEvent{
		{Revision: 1, Key: a, Data: json.RawMessage(`1`)},
		{Revision: 2, Key: b, Data: json.RawMessage(`2`)},
		{Revision: 3, Key: a},
	})
	events, err = collect(t, s, 2, 1)
	if err != nil || events[0].Revision != 3 {
		t.Errorf("after 2: %v, %v", events, err)
	}
	_, err = collect(t, s, 4, 1)
	wantKind(t, "watch from ahead of the store, as after a restore", err, maru.Exhausted)

	again, err := collect(t, s, 0, 3)
	if err != nil || len(again) != 3 {
		t.Errorf("a second time: %v, %v", again, err)
	}
}

// testWatchWhileWriting holds watchers that begin at any time against what many writers do.
func testWatchWhileWriting(t *testing.T, s Store) {
	const writers, each, watchers = 8, 60, 6
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			k := key("app", fmt.Sprint("w", w))
			for i := range each {
				second := key("app", fmt.Sprint("w", w, "/", i))
				if _, err := s.Commit(t.Context(), set(k, maru.Any, fmt.Sprint(i)), set(second, 0, `0`)); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
			}
		})
	}
	const total = writers * each * 2
	for range watchers {
		all.Go(func() {
			objects, from, err := s.List(t.Context(), "app", "")
			if err != nil {
				t.Error(err)
				return
			}
			state := map[string]string{}
			for _, o := range objects {
				state[o.Name] = string(o.Data)
			}
			events, err := collect(t, s, from, total-int(from))
			if err != nil {
				t.Error(err)
				return
			}
			for i, e := range events {
				if e.Revision != from+maru.Revision(i)+1 {
					t.Errorf("event %d after %d has revision %d", i, from, e.Revision)
					return
				}
				if i > 0 && e.At.Before(events[i-1].At.Add(-time.Minute)) {
					t.Errorf("revision %d at %v after %v", e.Revision, e.At, events[i-1].At)
				}
				state[e.Key.Name] = string(e.Data)
			}
			objects, _, err = s.List(t.Context(), "app", "")
			if err != nil || len(objects) != len(state) {
				t.Errorf("%d objects, %d by watching, %v", len(objects), len(state), err)
			}
			for _, o := range objects {
				if state[o.Name] != string(o.Data) {
					t.Errorf("%s is %s, by watching %s", o.Name, o.Data, state[o.Name])
				}
			}
		})
	}
	all.Wait()
}

// testWatchPrompt checks that a watcher that waits is told of a commit, and only once it is visible.
func testWatchPrompt(t *testing.T, s Store) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, fmt.Errorf("a watcher was not told"))
	defer cancel()
	next := make(chan maru.StoreEvent)
	go func() {
		defer close(next)
		for event, err := range s.Watch(ctx, 0) {
			if err != nil {
				return
			}
			next <- event
		}
	}()
	for i := range 50 {
		at := commit(t, s, set(key("app", "a"), maru.Any, fmt.Sprint(i)))
		event, ok := <-next
		if !ok || event.Revision != at {
			t.Fatalf("told %v, %v after revision %d", event, context.Cause(ctx), at)
		}
		object, err := s.Get(t.Context(), event.Key)
		if err != nil || object.Revision < event.Revision {
			t.Fatalf("told of %d, read %d, %v", event.Revision, object.Revision, err)
		}
	}
	cancel()
	for range next {
	}
}

// testWatchFarBehind reads more than any store is likely to keep in memory.
func testWatchFarBehind(t *testing.T, s Store) {
	const commits, each = 60, 100
	for i := range commits {
		batch := make([]maru.Change, each)
		for j := range batch {
			batch[j] = set(key("app", fmt.Sprintf("%03d", j)), maru.Any, fmt.Sprintf(`"%d %0200d"`, i, j))
		}
		commit(t, s, batch...)
	}
	events, err := collect(t, s, 0, commits*each)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		want := fmt.Sprintf(`"%d %0200d"`, i/each, i%each)
		if e.Revision != maru.Revision(i+1) || string(e.Data) != want {
			t.Fatalf("event %d is %d %.20s", i, e.Revision, e.Data)
		}
	}
}

func fill(t testing.TB, s Store, n int) maru.Revision {
	t.Helper()
	var at maru.Revision
	for i := range n {
		at = commit(t, s, set(key("app", fmt.Sprint(i%7)), maru.Any, fmt.Sprint(i)))
	}
	return at
}

func testCompact(t *testing.T, s Store) {
	if err := s.Compact(t.Context(), time.Now(), 0); err != nil {
		t.Errorf("compact an empty store: %v", err)
	}
	head := fill(t, s, 50)
	later := time.Now().Add(time.Hour)
	if err := s.Compact(t.Context(), later, 10); err != nil {
		t.Fatal(err)
	}
	_, err := collect(t, s, 0, 1)
	wantKind(t, "watch from the beginning", err, maru.Exhausted)
	_, err = collect(t, s, head-11, 1)
	wantKind(t, "watch from one too early", err, maru.Exhausted)
	if events, err := collect(t, s, head-10, 10); err != nil || events[0].Revision != head-9 {
		t.Errorf("the last ten: %v, %v", events, err)
	}
	if objects, at := list(t, s, "app", ""); len(objects) != 7 || at != head {
		t.Errorf("compaction left %d objects at %d", len(objects), at)
	}
	if err := s.Compact(t.Context(), later, 1000); err != nil {
		t.Errorf("keep more than there is: %v", err)
	}
	if err := s.Compact(t.Context(), later, 0); err != nil {
		t.Fatal(err)
	}
	_, err = collect(t, s, head-1, 1)
	wantKind(t, "watch when all is forgotten", err, maru.Exhausted)
	next := fill(t, s, 1)
	if events, err := collect(t, s, head, 1); err != nil || events[0].Revision != next {
		t.Errorf("after all was forgotten: %v, %v", events, err)
	}
}

func testCompactByAge(t *testing.T, s Store) {
	fill(t, s, 20)
	events, err := collect(t, s, 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(t.Context(), events[0].At, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(t, s, 0, 20); err != nil {
		t.Errorf("nothing was older than the first: %v", err)
	}
	limit := events[12].At
	if err := s.Compact(t.Context(), limit, 0); err != nil {
		t.Fatal(err)
	}
	first := maru.Revision(0)
	for _, e := range events {
		if e.At.Before(limit) {
			first = e.Revision
		}
	}
	kept, err := collect(t, s, first, 20-int(first))
	if err != nil || len(kept) == 0 || kept[0].At.Before(limit) {
		t.Errorf("kept %v, %v", kept, err)
	}
	if first > 0 {
		_, err = collect(t, s, first-1, 1)
		wantKind(t, "watch from one that is older", err, maru.Exhausted)
	}
}

// testCompactUnderWatchers checks that a watcher gets every change or Exhausted, never a gap.
func testCompactUnderWatchers(t *testing.T, s Store) {
	const total = 400
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			from := maru.Revision(0)
			for from < total {
				events, err := collect(t, s, from, total-int(from))
				for _, e := range events {
					if e.Revision != from+1 {
						t.Errorf("revision %d after %d", e.Revision, from)
						return
					}
					from++
				}
				if err == nil {
					continue
				}
				if maru.KindOf(err) != maru.Exhausted {
					t.Errorf("watch: %v", err)
					return
				}
				if _, from, err = s.List(t.Context(), "app", ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range total / 10 {
		fill(t, s, 10)
		if err := s.Compact(t.Context(), time.Now().Add(time.Hour), 5); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}
