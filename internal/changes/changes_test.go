package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

func TestCheck(t *testing.T) {
	k := maru.Key{Kind: "app", Name: "a"}
	one := json.RawMessage(`1`)
	for name, c := range map[string]struct {
		changes []maru.Change
		valid   bool
	}{
		"none":         {nil, true},
		"put":          {[]maru.Change{{Key: k, Data: one}}, true},
		"delete":       {[]maru.Change{{Key: k, Expect: maru.Any}}, true},
		"two":          {[]maru.Change{{Key: k, Data: one}, {Key: maru.Key{Kind: "b", Name: "a"}}}, true},
		"odd letters":  {[]maru.Change{{Key: maru.Key{Kind: "app", Name: "a/é 마루*"}, Data: one}}, true},
		"twice":        {[]maru.Change{{Key: k, Data: one}, {Key: k}}, false},
		"no kind":      {[]maru.Change{{Key: maru.Key{Name: "a"}}}, false},
		"line end":     {[]maru.Change{{Key: maru.Key{Kind: "a", Name: "a\n"}}}, false},
		"not UTF-8":    {[]maru.Change{{Key: maru.Key{Kind: "a", Name: "\xc3"}}}, false},
		"not JSON":     {[]maru.Change{{Key: k, Data: json.RawMessage(`{]`)}}, false},
		"empty":        {[]maru.Change{{Key: k, Data: json.RawMessage{}}}, false},
		"below Any":    {[]maru.Change{{Key: k, Expect: maru.Any - 1}}, false},
		"second wrong": {[]maru.Change{{Key: k, Data: one}, {Key: maru.Key{Kind: "b"}}}, false},
	} {
		if err := Check(c.changes); (err == nil) != c.valid || err != nil && maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckExpect(t *testing.T) {
	for _, c := range []struct {
		expect, now maru.Revision
		says        string
	}{
		{maru.Any, 0, ""}, {maru.Any, 7, ""}, {0, 0, ""}, {7, 7, ""},
		{0, 7, "exists"}, {7, 0, "gone"}, {7, 8, "changed meanwhile"},
	} {
		err := CheckExpect(maru.Change{Expect: c.expect}, c.now)
		if c.says == "" && err != nil || c.says != "" && (maru.KindOf(err) != maru.Conflict || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("expect %d, now %d: %v", c.expect, c.now, err)
		}
	}
}

func events(first maru.Revision, n, size int) []maru.StoreEvent {
	var all []maru.StoreEvent
	for i := range n {
		all = append(all, maru.StoreEvent{Revision: first + maru.Revision(i), Data: make(json.RawMessage, size)})
	}
	return all
}

// TestFeedKeepsTheLatest: what is kept is within the limits, without a gap, and ends with the last.
func TestFeedKeepsTheLatest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limits := Limits{Events: rapid.IntRange(0, 20).Draw(r, "events"), Bytes: rapid.IntRange(0, 200).Draw(r, "bytes")}
		head := maru.Revision(rapid.IntRange(0, 5).Draw(r, "head"))
		f := NewFeed(head, limits)
		forgot := head
		for range rapid.IntRange(0, 30).Draw(r, "steps") {
			batch := events(head+1, rapid.IntRange(0, 6).Draw(r, "batch"), rapid.IntRange(0, 60).Draw(r, "size"))
			f.Append(batch)
			head += maru.Revision(len(batch))
			if rapid.IntRange(0, 5).Draw(r, "forget") == 0 {
				upTo := maru.Revision(rapid.IntRange(0, int(head)+2).Draw(r, "up to"))
				f.Forget(upTo)
				forgot = max(forgot, min(upTo, head))
			}
			_, base := f.Events(0)
			kept, _ := f.Events(base)
			if f.Head() != head || base+maru.Revision(len(kept)) != head || base < forgot {
				r.Fatalf("kept %d after %d, forgot %d; the head is %d, of the feed %d", len(kept), base, forgot, head, f.Head())
			}
			bytes := 0
			for i, e := range kept {
				if e.Revision != base+maru.Revision(i)+1 {
					r.Fatalf("revision %d at %d after %d", e.Revision, i, base)
				}
				bytes += len(e.Data)
			}
			if limits.Events > 0 && len(kept) > limits.Events || limits.Bytes > 0 && bytes > limits.Bytes {
				r.Fatalf("kept %d events with %d bytes", len(kept), bytes)
			}
		}
	})
}

func TestWatchersHoldPartsThatAreForgotten(t *testing.T) {
	f := NewFeed(0, Limits{Events: 4})
	f.Append(events(1, 4, 0))
	held, _ := f.Events(1)
	f.Append(events(5, 4, 0))
	f.Forget(8)
	for i, e := range held {
		if e.Revision != maru.Revision(i+2) {
			t.Errorf("event %d has become revision %d", i, e.Revision)
		}
	}
}

func TestWatchReadsOlderOnesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed(10, Limits{})
		f.Append(events(11, 2, 0))
		asked := []maru.Revision{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var seen []maru.Revision
		go func() {
			for e, err := range f.Watch(ctx, 3, func(_ context.Context, from maru.Revision) ([]maru.StoreEvent, error) {
				asked = append(asked, from)
				return events(from+1, 4, 0), nil
			}) {
				if err != nil {
					t.Error(err)
				}
				seen = append(seen, e.Revision)
			}
		}()
		synctest.Wait()
		f.Append(events(13, 1, 0))
		synctest.Wait()
		if fmt.Sprint(asked) != "[3 7]" || fmt.Sprint(seen) != "[4 5 6 7 8 9 10 11 12 13]" {
			t.Errorf("asked for %v, seen %v", asked, seen)
		}
		cancel()
		synctest.Wait()
	})
}

func TestWatchEnds(t *testing.T) {
	cause := errors.New("disk")
	f := NewFeed(5, Limits{})
	for name, c := range map[string]struct {
		from maru.Revision
		want func(error) bool
	}{
		"older fails": {1, func(err error) bool { return errors.Is(err, cause) }},
		"ahead":       {6, func(err error) bool { return maru.KindOf(err) == maru.Exhausted }},
		"negative":    {-1, func(err error) bool { return maru.KindOf(err) == maru.Invalid }},
	} {
		n := 0
		for _, err := range f.Watch(t.Context(), c.from, func(context.Context, maru.Revision) ([]maru.StoreEvent, error) { return nil, cause }) {
			if n++; !c.want(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d times", name, n)
		}
	}
	f.Close()
	f.Close()
	for _, err := range f.Watch(t.Context(), 5, nil) {
		if maru.KindOf(err) != maru.Unavailable {
			t.Errorf("after close: %v", err)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	f.Add("app", "default/production/shop")
	f.Add("", "\x00")
	f.Fuzz(func(t *testing.T, kind, name string) {
		err := CheckKey(maru.Key{Kind: kind, Name: name})
		if err == nil && (strings.ContainsAny(kind+name, "\x00\n\r") || kind == "" || name == "") {
			t.Errorf("accepted %q, %q", kind, name)
		}
	})
}
