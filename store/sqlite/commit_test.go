package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	store, err := Open(filepath.Join(t.TempDir(), "maru.db"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func put(name string, expect maru.Revision, data string) maru.Change {
	return maru.Change{Key: key(name), Expect: expect, Data: json.RawMessage(data)}
}

// waiting is how many commits wait for their turn.
func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

func until(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestCommitsTogether has commits share a transaction: one that conflicts fails alone, and later ones
// see what earlier ones did.
func TestCommitsTogether(t *testing.T) {
	store := openStore(t)
	store.writes.turn <- struct{}{}
	type outcome struct {
		revision maru.Revision
		err      error
	}
	steps := [][]maru.Change{
		{put("a", 0, `1`), put("b", 0, `1`)},
		{put("c", 0, `1`), put("a", 0, `2`)}, // a is there: nothing of it happens
		{put("a", 1, `3`)},
		{{Key: key("none"), Expect: maru.Any}},
		{put("c", 0, `4`)},
	}
	outcomes := make([]outcome, len(steps))
	var all sync.WaitGroup
	for i, batch := range steps {
		all.Go(func() {
			outcomes[i].revision, outcomes[i].err = store.Commit(t.Context(), batch...)
		})
		until(t, func() bool { return store.writes.waiting() == i+1 })
	}
	store.writes.settled()
	all.Wait()
	for i, want := range []outcome{{revision: 2}, {err: errors.New("conflict")}, {revision: 3}, {revision: 3}, {revision: 4}} {
		got := outcomes[i]
		if got.revision != want.revision || (got.err == nil) != (want.err == nil) || got.err != nil && maru.KindOf(got.err) != maru.Conflict {
			t.Errorf("commit %d: %d, %v; want %d, %v", i, got.revision, got.err, want.revision, want.err)
		}
	}
	objects, revision, err := store.List(t.Context(), "app", "")
	if err != nil || revision != 4 || len(objects) != 3 || objects[0].Revision != 3 || objects[2].Revision != 4 {
		t.Errorf("listed %v at %d, %v", objects, revision, err)
	}
}

func TestCommitIsWithdrawnWhileItWaits(t *testing.T) {
	store := openStore(t)
	store.writes.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := store.Commit(ctx, put("a", 0, `1`))
		failed <- err
	}()
	until(t, func() bool { return store.writes.waiting() == 1 })
	cancel()
	if err := <-failed; maru.KindOf(err) != maru.Interrupted {
		t.Errorf("error %v", err)
	}
	store.writes.settled()
	if _, err := store.Commit(t.Context(), put("b", 0, `1`)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), key("a")); maru.KindOf(err) != maru.NotFound {
		t.Errorf("a commit that was withdrawn happened: %v", err)
	}
}

func TestCloseWhileCommitsWait(t *testing.T) {
	store := openStore(t)
	store.writes.turn <- struct{}{}
	committed := make(chan error)
	go func() {
		_, err := store.Commit(t.Context(), put("a", 0, `1`))
		committed <- err
	}()
	until(t, func() bool { return store.writes.waiting() == 1 })
	closed := make(chan error)
	go func() { closed <- store.Close() }()
	store.writes.settled()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-committed; err != nil && maru.KindOf(err) != maru.Unavailable {
		t.Errorf("error %v", err)
	}
}

// TestFullDisk: a commit that finds no room fails, nothing is lost, and the next one that fits
// succeeds.
func TestFullDisk(t *testing.T) {
	store := openStore(t)
	if _, err := store.Commit(t.Context(), put("a", 0, `1`)); err != nil {
		t.Fatal(err)
	}
	limit := func(pages int) {
		if _, err := store.writes.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(20)
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	_, err := store.Commit(t.Context(), put("a", 1, `2`), put("big", 0, big))
	if maru.KindOf(err) != maru.Exhausted || !strings.Contains(maru.HintOf(err), "free some space") {
		t.Errorf("error %v, hint %q", err, maru.HintOf(err))
	}
	if o, err := store.Get(t.Context(), key("a")); err != nil || string(o.Data) != `1` {
		t.Errorf("half of a commit happened: %s, %v", o.Data, err)
	}
	if at, err := store.Commit(t.Context(), put("a", 1, `3`)); err != nil || at != 2 {
		t.Errorf("a small commit after it: %d, %v", at, err)
	}
	limit(1 << 20)
	if at, err := store.Commit(t.Context(), put("big", 0, big)); err != nil || at != 3 {
		t.Errorf("with room again: %d, %v", at, err)
	}
	for event, err := range store.Watch(t.Context(), 1) {
		if err != nil || event.Revision != 2 {
			t.Errorf("watched %d, %v", event.Revision, err)
		}
		break
	}
}

// TestDurability holds what the package promises against what SQLite says it does.
func TestDurability(t *testing.T) {
	store := openStore(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "auto_vacuum": "2", "trusted_schema": "0"} {
		var got string
		if err := store.writes.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", pragma, got, err, want)
		}
	}
	if _, err := store.reads.db.Exec(`DELETE FROM object`); err == nil {
		t.Error("a reader can write")
	}
}

// TestQueriesUseTheIndex: the index gives the order, whatever the number of objects.
func TestQueriesUseTheIndex(t *testing.T) {
	store := openStore(t)
	for query, args := range map[string][]any{
		getQuery:   {"a", "b"},
		listQuery:  {"a", "b", "c"},
		olderQuery: {1, 2, 3},
	} {
		rows, err := store.reads.db.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // each before the next query
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n")
		if strings.Contains(text, "TEMP B-TREE") || strings.Contains(text, "SCAN o") {
			t.Errorf("%s:\n%s", query, text)
		}
	}
}

// TestCompactionFreesSpace: a file that has seen many changes does not stay large.
func TestCompactionFreesSpace(t *testing.T) {
	store := openStore(t)
	data := `"` + strings.Repeat("x", 50_000) + `"`
	for range 200 {
		if _, err := store.Commit(t.Context(), put("a", maru.Any, data)); err != nil {
			t.Fatal(err)
		}
	}
	pages := func() (n int) {
		if err := store.reads.db.QueryRow("PRAGMA page_count").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := pages()
	for range 20 {
		if err := store.Compact(t.Context(), time.Now().Add(time.Hour), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Commit(t.Context(), put("a", maru.Any, `1`)); err != nil {
			t.Fatal(err)
		}
	}
	if after := pages(); after > before/10 {
		t.Errorf("%d pages of %d are left", after, before)
	}
}
