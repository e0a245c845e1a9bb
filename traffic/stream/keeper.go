package stream

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

const (
	// debounce is how long changes are collected before they are written: not longer, since a proxy
	// that is killed meanwhile would come back with endpoints of before.
	debounce = 2 * time.Millisecond
	// lockRetry is how often a proxy looks whether the one before it has let go of the journal.
	lockRetry = time.Second
)

// keeper writes what is in force to the journal, a moment later.
type keeper struct {
	folder string
	plane  Plane
	log    *slog.Logger

	mu      sync.Mutex
	all     bool // everything is to be written
	changed map[maru.ServiceID]*maru.ServiceTraffic
	wake    chan struct{}
	done    chan struct{} // closed by stop
	once    sync.Once
}

func newKeeper(folder string, plane Plane, log *slog.Logger) *keeper {
	return &keeper{
		folder: folder, plane: plane, log: log, changed: map[maru.ServiceID]*maru.ServiceTraffic{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func (k *keeper) load() (maru.TrafficUpdate, error) {
	if k.folder == "" {
		return maru.TrafficUpdate{Full: true}, nil
	}
	j, err := openJournal(k.folder)
	if err != nil {
		return maru.TrafficUpdate{}, err
	}
	return j.load()
}

// keep notes what an update changed.
func (k *keeper) keep(u maru.TrafficUpdate) {
	if k.folder == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if u.Full || len(u.Resolvers) > 0 {
		k.all = true
	}
	for i := range u.Services {
		k.changed[u.Services[i].Service] = &u.Services[i]
	}
	for _, id := range u.Removed {
		k.changed[id] = nil
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) stop() { k.once.Do(func() { close(k.done) }) }

// run writes until ctx ends or stop is called, and then what is left.
func (k *keeper) run(ctx context.Context) error {
	if k.folder == "" {
		return nil
	}
	j, err := openJournal(k.folder)
	if err != nil {
		return err
	}
	defer j.close()
	var lock *os.File
	defer func() {
		if lock != nil {
			lock.Close()
		}
	}()
	failing := false
	for wait := (<-chan time.Time)(nil); ; {
		ending := false
		select {
		case <-k.wake:
			if wait == nil {
				wait = time.After(debounce)
			}
			continue
		case <-wait:
		case <-k.done:
			ending = true
		case <-ctx.Done():
			ending = true
		}
		wait = nil
		if lock == nil {
			lock = lockFolder(k.folder)
		}
		switch {
		case lock != nil:
			err := k.flush(j)
			if err != nil && !failing {
				k.log.Error("traffic state can't be kept", "error", err)
			}
			failing = err != nil
		case !ending:
			wait = time.After(lockRetry)
		}
		if ending {
			return nil
		}
	}
}

// flush writes what changed since the last time.
func (k *keeper) flush(j *journal) error {
	k.mu.Lock()
	all, changed := k.all || j.full(), k.changed
	k.all, k.changed = false, map[maru.ServiceID]*maru.ServiceTraffic{}
	k.mu.Unlock()
	if !all && len(changed) == 0 {
		return nil
	}
	var err error
	if all {
		err = j.write(k.plane.Traffic(), maru.TrafficUpdate{Resolvers: k.plane.Resolvers()})
	} else {
		var u maru.TrafficUpdate
		for id, s := range changed {
			if s == nil {
				u.Removed = append(u.Removed, id)
			} else {
				u.Services = append(u.Services, *s)
			}
		}
		err = j.append(u)
	}
	if err != nil {
		k.mu.Lock()
		k.all = true
		k.mu.Unlock()
	}
	return err
}

// lockFolder makes this process the one that writes in the folder, or gives nil when another is it.
func lockFolder(folder string) *os.File {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
}
