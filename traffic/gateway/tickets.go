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

const (
	// ticketsName is that of the file in memory that ticket keys are kept in.
	ticketsName = "tickets"
	// ticketLife is how long a key makes tickets. Whoever learns a key can read what was said by sessions
	// that were resumed with it, so it is forgotten when it is ticketKeys lives old.
	ticketLife = 12 * time.Hour
	ticketKeys = 3
)

// ticketKey makes session tickets (RFC 5077, 4; RFC 8446, 4.6.1).
type ticketKey struct {
	Key  [32]byte  `json:"key"`
	Made time.Time `json:"made"`
}

// tickets holds the keys of session tickets. They outlive the process in a file in memory, so that
// sessions are resumed with the one that follows, and are never on a disk.
type tickets struct {
	keep func(name string, f *os.File) error // nil: not kept
	log  *slog.Logger

	mu   sync.Mutex
	keys []ticketKey // the newest first
	file *os.File    // open for as long as the process lives, for a supervisor that starts anew
}

// load takes over what the process before had, or begins anew.
func (t *tickets) load(kept func(name string) (*os.File, error), now time.Time) {
	if kept != nil {
		if err := t.take(kept); err != nil {
			t.log.Warn("TLS sessions of before can't be resumed", "error", err)
		}
	}
	t.rotate(now)
}

func (t *tickets) take(kept func(name string) (*os.File, error)) error {
	f, err := kept(ticketsName)
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
		return fmt.Errorf("kept ticket keys: %w", err)
	}
	return nil
}

// rotate makes a new key when the newest has had its time, forgets the oldest, and tells when it is to be
// called again.
func (t *tickets) rotate(now time.Time) (again time.Duration, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) > 0 {
		if age := now.Sub(t.keys[0].Made); age >= 0 && age < ticketLife {
			return ticketLife - age, false
		}
	}
	fresh := ticketKey{Made: now}
	_, _ = rand.Read(fresh.Key[:]) // never fails
	keys := []ticketKey{fresh}
	for _, k := range t.keys {
		if age := now.Sub(k.Made); len(keys) < ticketKeys && age >= 0 && age < ticketKeys*ticketLife {
			keys = append(keys, k)
		}
	}
	t.keys = keys
	t.save()
	return ticketLife, true
}

func (t *tickets) save() {
	if t.keep == nil {
		return
	}
	f, err := memfile.Seal(ticketsName, maru.Raw(t.keys))
	if err == nil {
		if err = t.keep(ticketsName, f); err == nil && t.file != nil {
			t.file.Close()
		}
		t.file = f
	}
	if err != nil {
		t.log.Warn("TLS sessions will not be resumed after a restart", "error", err)
	}
}

// derived gives the keys for those sessions that have this in common: a ticket of others is not taken.
func (t *tickets) derived(common string) [][32]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		if common == "" {
			keys[i] = k.Key
			continue
		}
		made, err := hkdf.Key(sha256.New, k.Key[:], nil, "maru tickets "+common, len(keys[i]))
		if err != nil {
			panic("gateway: " + err.Error()) // the length is one that HKDF can give
		}
		keys[i] = [32]byte(made)
	}
	return keys
}

// run rotates the keys until ctx ends, and calls changed each time.
func (t *tickets) run(ctx context.Context, changed func()) {
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
