package local

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/userns"
	"github.com/marucloud/maru/internal/atomicfile"
	"github.com/marucloud/maru/internal/crash"
	"github.com/marucloud/maru/internal/layout"
)

// record is what is kept of an instance over the process's life and the machine's.
type record struct {
	ID         string            `json:"id"`
	Workload   maru.WorkloadID   `json:"workload"`
	Addresses  maru.Addresses    `json:"addresses"`
	Users      userns.Range      `json:"users,omitempty"` // that it is outside; zero: the host's
	Created    time.Time         `json:"created"`
	Attempt    int               `json:"attempt"`        // containers it has had
	Begun      time.Time         `json:"begun,omitzero"` // this attempt; on disk before its process starts
	Started    time.Time         `json:"started,omitzero"`
	ReadySince time.Time         `json:"readySince,omitzero"`
	WasReady   bool              `json:"wasReady,omitempty"` // in this attempt
	Draining   time.Time         `json:"draining,omitzero"`
	Signaled   time.Time         `json:"signaled,omitzero"` // of this attempt
	Ended      time.Time         `json:"ended,omitzero"`    // of this attempt; zero: it runs, or nothing ran yet
	Failed     bool              `json:"failed,omitempty"`
	Ends       int               `json:"ends,omitempty"`    // in a row
	Problem    string            `json:"problem,omitempty"` // why this attempt could not be started
	LastExit   *maru.Exit        `json:"lastExit,omitempty"`
	Protocols  map[uint16]string `json:"protocols,omitempty"`
	Holds      bool              `json:"holds,omitempty"` // the volumes that it writes
}

// recordStore keeps the records of instances.
type recordStore struct{ folder string }

func newRecordStore(l layout.Layout) *recordStore {
	return &recordStore{folder: filepath.Join(l.RuntimeData(), "instances")}
}

func (s *recordStore) open() error {
	if err := atomicfile.MkdirAll(s.folder, 0o700); err != nil {
		return err
	}
	return atomicfile.Clean(s.folder)
}

// load gives all records by ID. One that can't be read belongs to an instance that is then made anew.
func (s *recordStore) load() (map[string]record, error) {
	files, err := filepath.Glob(filepath.Join(s.folder, "*.json"))
	if err != nil {
		return nil, err
	}
	all := make(map[string]record)
	for _, file := range files {
		data, err := atomicfile.Read(file)
		if err != nil {
			return nil, err
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil || r.ID+".json" != filepath.Base(file) {
			if err := atomicfile.Remove(file); err != nil {
				return nil, err
			}
			continue
		}
		all[r.ID] = r
	}
	return all, nil
}

// recordFile is one instance's record on disk. Writes may come from several goroutines and out of
// order: the newest stays.
type recordFile struct {
	path string

	mu      sync.Mutex
	written uint64
}

func (s *recordStore) file(id string) *recordFile {
	return &recordFile{path: filepath.Join(s.folder, id+".json")}
}

// save writes the record durably, unless a newer version was written.
func (f *recordFile) save(version uint64, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if version <= f.written {
		return nil
	}
	crash.Point("engine.instance.save.before")
	if err := atomicfile.Write(f.path, data, 0o600); err != nil {
		return fmt.Errorf("keep instance %s: %w", r.ID, err)
	}
	crash.Point("engine.instance.save.after")
	f.written = version
	return nil
}

// forget removes the record for good.
func (f *recordFile) forget() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = ^uint64(0)
	crash.Point("engine.instance.forget.before")
	err := atomicfile.Remove(f.path)
	crash.Point("engine.instance.forget.after")
	return err
}

// containerID names the container of one attempt, within the limits of containerd.
func containerID(instance string, attempt int) string {
	const longest = 60
	suffix := "." + maru.Itoa(attempt)
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, instance)
	for strings.Contains(plain, "--") {
		plain = strings.ReplaceAll(plain, "--", "-")
	}
	if plain == instance && len(plain) <= longest {
		return plain + suffix
	}
	digest := key(maru.WorkloadID{Name: instance})[:12]
	return strings.Trim(plain[:min(len(plain), longest-len(digest)-1)], "-") + "-" + digest + suffix
}
