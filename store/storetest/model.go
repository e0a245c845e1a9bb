package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// model is the contract as plain maps and slices.
type model struct {
	objects map[maru.Key]maru.Object
	log     []maru.StoreEvent // from revision 1
	forgot  int               // of log
}

func (m *model) commit(changes []maru.Change) error {
	for _, c := range changes {
		if now := m.objects[c.Key].Revision; c.Expect != maru.Any && c.Expect != now {
			return maru.Errorf(maru.Conflict, "%v has %d, not %d", c.Key, now, c.Expect)
		}
	}
	for _, c := range changes {
		if _, there := m.objects[c.Key]; !there && c.Data == nil {
			continue
		}
		event := maru.StoreEvent{Revision: maru.Revision(len(m.log) + 1), Key: c.Key, Data: c.Data}
		m.log = append(m.log, event)
		if c.Data == nil {
			delete(m.objects, c.Key)
		} else {
			m.objects[c.Key] = maru.Object{Key: c.Key, Revision: event.Revision, Data: c.Data}
		}
	}
	return nil
}

func (m *model) list(kind, prefix string) []maru.Object {
	var found []maru.Object
	for k, o := range m.objects {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b maru.Object) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// pair is a store and its model. Each run of a property uses kinds of its own, since opening a store
// anew for each would be slow; Offset is the revision that the store had when the run began.
type pair struct {
	t      testing.TB
	store  Store
	model  model
	kinds  []string
	offset maru.Revision
}

func newPair(t testing.TB, store Store, run int) *pair {
	p := &pair{t: t, store: store, model: model{objects: map[maru.Key]maru.Object{}}}
	for _, kind := range []string{"a", "b"} {
		p.kinds = append(p.kinds, fmt.Sprint(kind, run))
	}
	_, p.offset = list(t, store, "none", "")
	return p
}

func (p *pair) changes(r *rapid.T) []maru.Change {
	keys := rapid.SliceOfNDistinct(rapid.Custom(func(r *rapid.T) maru.Key {
		return key(rapid.SampledFrom(p.kinds).Draw(r, "kind"), rapid.StringMatching(`[xy](/[xy])?`).Draw(r, "name"))
	}), 1, 4, rapid.ID[maru.Key]).Draw(r, "keys")
	var batch []maru.Change
	for _, k := range keys {
		c := maru.Change{Key: k, Expect: maru.Any}
		if rapid.IntRange(0, 3).Draw(r, "put") > 0 {
			c.Data = json.RawMessage(fmt.Sprint(rapid.IntRange(0, 9).Draw(r, "data")))
		}
		switch rapid.SampledFrom([]string{"any", "right", "right", "none", "wrong"}).Draw(r, "expect") {
		case "right":
			c.Expect = p.model.objects[k].Revision
		case "none":
			c.Expect = 0
		case "wrong":
			c.Expect = maru.Revision(rapid.IntRange(1, 9).Draw(r, "revision"))
		}
		batch = append(batch, c)
	}
	return batch
}

// real translates what the model expects to the store's revisions.
func (p *pair) real(batch []maru.Change) []maru.Change {
	batch = slices.Clone(batch)
	for i := range batch {
		if batch[i].Expect > 0 {
			batch[i].Expect += p.offset
		}
	}
	return batch
}

func (p *pair) commit(r *rapid.T) {
	batch := p.changes(r)
	at, err := p.store.Commit(p.t.Context(), p.real(batch)...)
	want := p.model.commit(batch)
	if maru.KindOf(err) != maru.KindOf(want) {
		r.Fatalf("commit %v: %v, want %v", batch, err, want)
	}
	if err == nil && at-p.offset != maru.Revision(len(p.model.log)) {
		r.Fatalf("commit %v gave revision %d, want %d", batch, at-p.offset, len(p.model.log))
	}
}

func (p *pair) compact(r *rapid.T) {
	keep := rapid.IntRange(0, 10).Draw(r, "keep")
	if err := p.store.Compact(p.t.Context(), time.Now().Add(time.Hour), keep); err != nil {
		r.Fatal(err)
	}
	p.model.forgot = max(p.model.forgot, len(p.model.log)-keep)
}

func (p *pair) watch(r *rapid.T) {
	from := rapid.IntRange(0, len(p.model.log)).Draw(r, "from")
	want := p.model.log[from:]
	if len(want) == 0 {
		return
	}
	events, err := collect(p.t, p.store, p.offset+maru.Revision(from), len(want))
	if from < p.model.forgot {
		if maru.KindOf(err) != maru.Exhausted || len(events) > 0 {
			r.Fatalf("watch from %d, forgotten up to %d: %v, %v", from, p.model.forgot, events, err)
		}
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	for i, e := range events {
		if e.Revision-p.offset != want[i].Revision || e.Key != want[i].Key || string(e.Data) != string(want[i].Data) || (e.Data == nil) != (want[i].Data == nil) {
			r.Fatalf("watched %v, want %v", e, want[i])
		}
	}
}

// compare holds all that can be read against the model.
func (p *pair) compare(r *rapid.T) {
	for _, kind := range p.kinds {
		for _, prefix := range []string{"", "x", "x/", "y/x"} {
			objects, at, err := p.store.List(p.t.Context(), kind, prefix)
			if err != nil || at-p.offset != maru.Revision(len(p.model.log)) {
				r.Fatalf("list at %d, %v; want %d", at-p.offset, err, len(p.model.log))
			}
			want := p.model.list(kind, prefix)
			if len(objects) != len(want) {
				r.Fatalf("list %s %q: %v, want %v", kind, prefix, objects, want)
			}
			for i, o := range objects {
				p.same(r, o, want[i])
				got, err := p.store.Get(p.t.Context(), o.Key)
				if err != nil {
					r.Fatal(err)
				}
				p.same(r, got, want[i])
			}
		}
	}
}

func (p *pair) same(r *rapid.T, got, want maru.Object) {
	if got.Key != want.Key || got.Revision-p.offset != want.Revision || string(got.Data) != string(want.Data) {
		r.Fatalf("%v, want %v", got, want)
	}
}

func testModel(t *testing.T, s Store) {
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		p := newPair(t, s, run)
		r.Repeat(map[string]func(*rapid.T){
			"commit":  p.commit,
			"compact": p.compact,
			"watch":   p.watch,
			"":        p.compare,
		})
	})
}

func testReopenedModel(t *testing.T, open Open) {
	folder, run := t.TempDir(), 0
	s := open(t, folder)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rapid.Check(t, func(r *rapid.T) {
		run++
		p := newPair(t, s, run)
		r.Repeat(map[string]func(*rapid.T){
			"commit":  p.commit,
			"compact": p.compact,
			"watch":   p.watch,
			"reopen": func(r *rapid.T) {
				if err := s.Close(); err != nil {
					r.Fatal(err)
				}
				s = open(t, folder)
				p.store = s
			},
			"": p.compare,
		})
	})
}
