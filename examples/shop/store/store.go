package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// entry is a key as it is now. Revision is that of its last change.
type entry struct {
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"`
	Revision int64           `json:"revision"`
}

// op is a wish of a commit. With Expect, the key must have that revision: 0 is none.
type op struct {
	Put    string          `json:"put,omitempty"`
	Delete string          `json:"delete,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
	Expect *int64          `json:"expect,omitempty"`
}

func (o op) key() string { return cmp.Or(o.Put, o.Delete) }

var (
	errConflict = errors.New("it changed meanwhile")
	errInvalid  = errors.New("invalid")
	errClosed   = errors.New("the store is closed")
)

// store keeps entries in memory and every commit in a journal. Commits that come together are written
// together, with one wait for the disk.
type store struct {
	mu       sync.RWMutex
	entries  map[string]entry
	revision int64
	leases   map[string]time.Time // taken keys, until when; forgotten when the store restarts
	watchers map[chan []watched]string
	changed  chan struct{} // closed and made anew at each commit

	commits chan *pending
	stopped chan struct{}
	journal *journal
	live    int64 // bytes of entries, about
}

type pending struct {
	ops    []op
	result chan error
	rev    int64
}

// watched is a change as a watcher sees it. Value is nil when the key was deleted.
type watched = entry

func openStore(dir string) (*store, error) {
	s := &store{
		entries: map[string]entry{}, leases: map[string]time.Time{}, watchers: map[chan []watched]string{},
		changed: make(chan struct{}), commits: make(chan *pending, 256), stopped: make(chan struct{}),
	}
	var err error
	if s.journal, err = openJournal(dir, func(c commit) { s.apply(c) }); err != nil {
		return nil, err
	}
	return s, nil
}

// run writes commits until stop is closed, and then those that came before.
func (s *store) run(stop <-chan struct{}) error {
	defer close(s.stopped)
	for {
		select {
		case first := <-s.commits:
			if err := s.write(first); err != nil {
				return err
			}
		case <-stop:
			return s.journal.close()
		}
	}
}

// together is how many commits share one wait for the disk at most.
const together = 256

func (s *store) write(first *pending) error {
	batch := []*pending{first}
	for len(batch) < together {
		select {
		case p := <-s.commits:
			batch = append(batch, p)
			continue
		default:
		}
		break
	}
	var records []byte
	var accepted []commit
	staged := map[string]int64{} // revisions that earlier commits of this batch give
	for _, p := range batch {
		c, err := s.check(p.ops, staged, s.revision+int64(len(accepted))+1)
		var record []byte
		if err == nil {
			record, err = encode(c)
		}
		if err != nil {
			p.result <- err
			p.result = nil
			continue
		}
		p.rev = c.Revision
		records = append(records, record...)
		accepted = append(accepted, c)
	}
	var err error
	if len(records) > 0 {
		err = s.journal.append(records)
	}
	for _, c := range accepted {
		if err == nil {
			s.publish(c)
		}
	}
	for _, p := range batch {
		if p.result != nil {
			p.result <- err
		}
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err) // what is on the disk is not known any more: start anew
	}
	return s.compact()
}

func (s *store) check(ops []op, staged map[string]int64, revision int64) (commit, error) {
	c := commit{Revision: revision}
	seen := map[string]bool{}
	for _, o := range ops {
		key := o.key()
		if key == "" || o.Put != "" && o.Delete != "" || seen[key] || o.Put != "" && !json.Valid(o.Value) {
			return c, fmt.Errorf("%w: each key once, put with a JSON value or delete", errInvalid)
		}
		seen[key] = true
		now, ok := staged[key]
		if !ok {
			now = s.entries[key].Revision
		}
		if o.Expect != nil && *o.Expect != now {
			return c, fmt.Errorf("%s: %w: it is at revision %d", key, errConflict, now)
		}
		if o.Put != "" {
			c.Changes = append(c.Changes, change{key, o.Value})
		} else {
			c.Changes = append(c.Changes, change{Key: key})
		}
	}
	for _, o := range ops {
		staged[o.key()] = revision
		if o.Delete != "" {
			staged[o.key()] = 0
		}
	}
	return c, nil
}

// apply makes a commit visible.
func (s *store) apply(c commit) []watched {
	var seen []watched
	for _, ch := range c.Changes {
		s.live += int64(len(ch.Key)+len(ch.Value)) - int64(len(ch.Key)+len(s.entries[ch.Key].Value))
		e := entry{ch.Key, ch.Value, c.Revision}
		if ch.Value == nil {
			delete(s.entries, ch.Key)
			delete(s.leases, ch.Key)
		} else {
			s.entries[ch.Key] = e
		}
		seen = append(seen, e)
	}
	s.revision = max(s.revision, c.Revision)
	return seen
}

func (s *store) publish(c commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.apply(c)
	for w, prefix := range s.watchers {
		var mine []watched
		for _, e := range seen {
			if strings.HasPrefix(e.Key, prefix) {
				mine = append(mine, e)
			}
		}
		if len(mine) == 0 {
			continue
		}
		select {
		case w <- mine:
		default: // too slow: it has to look again
			close(w)
			delete(s.watchers, w)
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// worthwhile is the size below which a journal is not written anew.
const worthwhile = 4 << 20

// compact writes the journal anew when most of it is history.
func (s *store) compact() error {
	if s.journal.size < worthwhile || s.journal.size < 4*s.live {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.journal.rewrite(func(write func(commit) error) error {
		all := make([]entry, 0, len(s.entries))
		for _, e := range s.entries {
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.Revision, b.Revision) })
		for _, e := range all {
			if err := write(commit{e.Revision, []change{{e.Key, e.Value}}}); err != nil {
				return err
			}
		}
		return write(commit{Revision: s.revision}) // even if its entry is gone: revisions never come twice
	})
}

// commit makes all changes or none, and returns when they are on the disk.
func (s *store) commit(ops []op) (int64, error) {
	p := &pending{ops: ops, result: make(chan error, 1)}
	result := p.result
	select {
	case s.commits <- p:
	case <-s.stopped:
		return 0, errClosed
	}
	select {
	case err := <-result:
		return p.rev, err
	case <-s.stopped:
		return 0, errClosed
	}
}

func (s *store) get(key string) (entry, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.entries[key]
	return e, ok
}

// list gives the entries under a prefix, sorted by key.
func (s *store) list(prefix string, limit int, reverse bool) ([]entry, int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := []entry{}
	for key, e := range s.entries {
		if strings.HasPrefix(key, prefix) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b entry) int {
		if reverse {
			a, b = b, a
		}
		return cmp.Compare(a.Key, b.Key)
	})
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found, s.revision
}

// take lends the first entry under a prefix that nobody has, until now and lease; then it may be lent
// again. Who has done what it asks for deletes it. It gives a channel that tells when to look again.
func (s *store) take(prefix string, now time.Time, lease time.Duration) (entry, bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first entry
	for key, e := range s.entries {
		if strings.HasPrefix(key, prefix) && now.After(s.leases[key]) && (first.Key == "" || key < first.Key) {
			first = e
		}
	}
	if first.Key != "" {
		s.leases[first.Key] = now.Add(lease)
	}
	return first, first.Key != "", s.changed
}

// watch gives the changes under a prefix from now on, until stop is called. The channel is closed when
// the watcher is too slow.
func (s *store) watch(prefix string) (changes <-chan []watched, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := make(chan []watched, 64)
	s.watchers[w] = prefix
	return w, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}
}
