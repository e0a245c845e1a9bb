package gateway

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/memfile"
)

// Names of the files in memory that keys are kept in.
const (
	ticketsName  = "tickets"
	sessionsName = "sessions"
)

// keyring holds keys that are replaced now and then. They outlive the process in a file in memory, so that
// what was made with them is known to the one that follows, and are never on a disk.
type keyring struct {
	name  string // of the file
	what  string // can't be done without the keys of before
	life  time.Duration
	count int                                 // of keys: one is forgotten when it is that many lives old
	keep  func(name string, f *os.File) error // nil: not kept
	log   *slog.Logger

	mu   sync.Mutex
	keys []ringKey // the newest first
	file *os.File  // open for as long as the process lives, for a supervisor that starts anew
}

type ringKey struct {
	Key  [32]byte  `json:"key"`
	Made time.Time `json:"made"`
}

// newTickets holds the keys of TLS session tickets (RFC 5077, 4; RFC 8446, 4.6.1). Whoever learns a key can
// read what was said by sessions that were resumed with it.
func newTickets() *keyring {
	return &keyring{name: ticketsName, what: "TLS sessions of before can't be resumed", life: 12 * time.Hour, count: 3}
}

// newSessions holds those of the cookies of people who logged in. A key is there for as long as the longest
// session that was begun with it.
func newSessions() *keyring {
	const life = 24 * time.Hour
	return &keyring{name: sessionsName, what: "people have to log in again", life: life, count: int(maru.LongestSession/life) + 1}
}

// load takes over what the process before had, or begins anew.
func (t *keyring) load(kept func(name string) (*os.File, error), now time.Time) {
	if kept != nil {
		if err := t.take(kept); err != nil {
			t.log.Warn(t.what, "error", err)
		}
	}
	t.rotate(now)
}

func (t *keyring) take(kept func(name string) (*os.File, error)) error {
	f, err := kept(t.name)
	if err != nil || f == nil {
		return err
	}
	data, err := memfile.Read(f)
	if err != nil {
		f.Close()
		return err
	}
	t.file = f
	if err := json.Unmarshal(data, &t.keys); err != nil {
		return fmt.Errorf("kept keys of %s: %w", t.name, err)
	}
	return nil
}

// rotate makes a new key when the newest has had its time, forgets the oldest, and tells when it is to be
// called again.
func (t *keyring) rotate(now time.Time) (again time.Duration, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) > 0 {
		if age := now.Sub(t.keys[0].Made); age >= 0 && age < t.life {
			return t.life - age, false
		}
	}
	fresh := ringKey{Made: now}
	_, _ = rand.Read(fresh.Key[:]) // never fails
	keys := []ringKey{fresh}
	for _, k := range t.keys {
		if age := now.Sub(k.Made); len(keys) < t.count && age >= 0 && age < time.Duration(t.count)*t.life {
			keys = append(keys, k)
		}
	}
	t.keys = keys
	t.save()
	return t.life, true
}

func (t *keyring) save() {
	if t.keep == nil {
		return
	}
	f, err := memfile.Seal(t.name, maru.Raw(t.keys))
	if err == nil {
		if err = t.keep(t.name, f); err == nil && t.file != nil {
			t.file.Close()
		}
		t.file = f
	}
	if err != nil {
		t.log.Warn("keys will not be there after a restart", "of", t.name, "error", err)
	}
}

// derived gives the keys for what has this in common: what was made with those of others is not taken.
func (t *keyring) derived(common string) [][32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		if common == "" {
			keys[i] = k.Key
			continue
		}
		made, err := hkdf.Key(sha256.New, k.Key[:], nil, "maru "+t.name+" "+common, len(keys[i]))
		if err != nil {
			panic("gateway: " + err.Error()) // the length is one that HKDF can give
		}
		keys[i] = [32]byte(made)
	}
	return keys
}

// run rotates the keys until ctx ends, and calls changed each time.
func (t *keyring) run(ctx context.Context, changed func()) {
	for {
		again, did := t.rotate(time.Now())
		if did {
			changed()
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
