package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

func testValues(t *testing.T, s Store) {
	values := map[string]string{
		"null":       `null`,
		"number":     `12345678901234567890.5e-3`,
		"spaces":     " {\n\t\"a\" : 1 } ",
		"escapes":    `"\u0000\ud83d\ude00\\"`,
		"unicode":    `"마루 ☃ 😀"`,
		"big":        `"` + strings.Repeat("x", 3<<20) + `"`,
		"empty list": `[]`,
	}
	var at maru.Revision
	for name, value := range values {
		at = commit(t, s, set(key("value", name), 0, value))
	}
	for name, value := range values {
		object, err := s.Get(t.Context(), key("value", name))
		if err != nil || string(object.Data) != value {
			t.Errorf("%s: got %.40q, %v", name, object.Data, err)
		}
	}
	events, err := collect(t, s, 0, len(values))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if string(e.Data) != values[e.Key.Name] {
			t.Errorf("%s: watched %.40q", e.Key.Name, e.Data)
		}
	}
	if at != maru.Revision(len(values)) {
		t.Errorf("revision %d after %d changes", at, len(values))
	}
}

func testClosed(t *testing.T, s Store) {
	commit(t, s, set(key("app", "a"), 0, `1`))
	ended := make(chan error, 1)
	watching := make(chan struct{})
	go func() {
		for _, err := range s.Watch(context.WithoutCancel(t.Context()), 0) {
			if err != nil {
				ended <- err
				return
			}
			close(watching)
		}
		ended <- nil
	}()
	<-watching
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		wantKind(t, "a watcher at close", err, maru.Unavailable)
	case <-time.After(time.Minute):
		t.Error("a watcher goes on after close")
	}
	ctx := t.Context()
	_, err := s.Get(ctx, key("app", "a"))
	wantKind(t, "get", err, maru.Unavailable)
	_, _, err = s.List(ctx, "app", "")
	wantKind(t, "list", err, maru.Unavailable)
	_, err = s.Commit(ctx, set(key("app", "b"), 0, `1`))
	wantKind(t, "commit", err, maru.Unavailable)
	wantKind(t, "compact", s.Compact(ctx, time.Now(), 0), maru.Unavailable)
	_, err = collect(t, s, 0, 1)
	wantKind(t, "watch", err, maru.Unavailable)
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func testContext(t *testing.T, s Store) {
	commit(t, s, set(key("app", "a"), 0, `1`))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, key("app", "a"))
	wantKind(t, "get", err, maru.Interrupted)
	_, _, err = s.List(ctx, "app", "")
	wantKind(t, "list", err, maru.Interrupted)
	_, err = s.Commit(ctx, set(key("app", "b"), 0, `1`))
	wantKind(t, "commit", err, maru.Interrupted)
	if objects, _ := list(t, s, "app", ""); len(objects) != 1 {
		t.Errorf("an interrupted commit happened: %v", objects)
	}
	for event, err := range s.Watch(ctx, 0) {
		t.Errorf("a watcher without time got %v, %v", event, err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	for event, err := range s.Watch(ctx, 0) {
		if err != nil {
			t.Errorf("watch: %v", err)
		}
		if event.Revision != 1 {
			t.Errorf("watched %v", event)
		}
		cancel()
	}
}

func testAll(t *testing.T, s Store) {
	for range s.All(t.Context()) {
		t.Error("an empty store has an object")
	}
	commit(t, s, set(key("b", "z"), 0, `1`), set(key("b", "a"), 0, `2`), set(key("a", "m"), 0, `3`), set(key("c", "x"), 0, `4`))
	commit(t, s, unset(key("c", "x"), 4))
	var all []maru.Object
	for o, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	diff(t, "objects", all, []maru.Object{
		{Key: key("a", "m"), Revision: 3, Data: json.RawMessage(`3`)},
		{Key: key("b", "a"), Revision: 2, Data: json.RawMessage(`2`)},
		{Key: key("b", "z"), Revision: 1, Data: json.RawMessage(`1`)},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	for _, err := range s.All(ctx) {
		if seen++; seen == 1 {
			cancel()
			continue
		}
		wantKind(t, "after the time is up", err, maru.Interrupted)
	}
	if seen != 2 {
		t.Errorf("%d objects and errors came", seen)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.All(t.Context()) {
		wantKind(t, "after close", err, maru.Unavailable)
	}
}

// testAllWhileWriting reads all while two objects always change together.
func testAllWhileWriting(t *testing.T, s Store) {
	write := func(n int) {
		commit(t, s, set(key("a", "a"), maru.Any, fmt.Sprint(n)), set(key("b", "b"), maru.Any, fmt.Sprint(n)))
	}
	write(0)
	for n := range 20 {
		var seen []string
		for o, err := range s.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, string(o.Data))
			write(n)
		}
		if len(seen) != 2 || seen[0] != seen[1] {
			t.Errorf("seen %q", seen)
		}
	}
}

// testReopen checks that all of a store's state outlives it.
func testReopen(t *testing.T, open Open) {
	folder := t.TempDir()
	s := open(t, folder)
	commit(t, s, set(key("app", "a"), 0, `1`), set(key("app", "b"), 0, `2`))
	commit(t, s, unset(key("app", "a"), 1))
	before, err := collect(t, s, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, folder)
	after, err := collect(t, s, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "events", after, before)
	if err := s.Compact(t.Context(), time.Now().Add(time.Hour), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = opened(t, open, folder)
	objects, revision := list(t, s, "app", "")
	diff(t, "objects", objects, []maru.Object{{Key: key("app", "b"), Revision: 2, Data: json.RawMessage(`2`)}})
	if revision != 3 {
		t.Errorf("revision %d, with all changes forgotten", revision)
	}
	_, err = collect(t, s, 2, 1)
	wantKind(t, "watch what was forgotten before reopening", err, maru.Exhausted)
	if at := commit(t, s, set(key("app", "c"), 0, `3`)); at != 4 {
		t.Errorf("the next change has revision %d", at)
	}
	if events, err := collect(t, s, 3, 1); err != nil || events[0].Revision != 4 {
		t.Errorf("watched %v, %v", events, err)
	}
}
