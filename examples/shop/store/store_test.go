package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, dir string) (*store, func()) {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.run(stop) }()
	return s, func() {
		close(stop)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func put(key, value string) op { return op{Put: key, Value: json.RawMessage(value)} }

func at(rev int64) *int64 { return &rev }

func TestCommit(t *testing.T) {
	s, closeStore := open(t, t.TempDir())
	defer closeStore()
	first, err := s.commit([]op{put("a", `1`), put("b", `2`)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ops  []op
		want error
	}{
		"expected":       {[]op{{Put: "a", Value: json.RawMessage(`2`), Expect: at(first)}}, nil},
		"changed since":  {[]op{{Put: "a", Value: json.RawMessage(`3`), Expect: at(first - 1)}}, errConflict},
		"not there":      {[]op{{Put: "new", Value: json.RawMessage(`3`), Expect: at(0)}}, nil},
		"there already":  {[]op{{Put: "b", Value: json.RawMessage(`3`), Expect: at(0)}}, errConflict},
		"all or nothing": {[]op{put("c", `1`), {Put: "b", Value: json.RawMessage(`3`), Expect: at(0)}}, errConflict},
		"twice":          {[]op{put("c", `1`), put("c", `2`)}, errInvalid},
		"no JSON":        {[]op{put("c", `{`)}, errInvalid},
		"no key":         {[]op{{Value: json.RawMessage(`1`)}}, errInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.commit(c.ops); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if _, ok := s.get("c"); ok {
		t.Error("a refused commit left something")
	}
}

func TestEverythingIsThereAgain(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	var work sync.WaitGroup
	for i := range 200 {
		work.Go(func() {
			if _, err := s.commit([]op{put(fmt.Sprintf("k/%03d", i), fmt.Sprint(i)), put("last", `true`)}); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if _, err := s.commit([]op{{Delete: "k/007"}}); err != nil {
		t.Fatal(err)
	}
	want, revision := s.list("", 0, false)
	closeStore()
	again, closeAgain := open(t, dir)
	defer closeAgain()
	got, gotRevision := again.list("", 0, false)
	if len(got) != 200 || gotRevision != revision {
		t.Fatalf("%d entries at %d, want %d at %d", len(got), gotRevision, len(want), revision)
	}
	for i, e := range got {
		if e.Key != want[i].Key || e.Revision != want[i].Revision || !bytes.Equal(e.Value, want[i].Value) {
			t.Errorf("%+v, want %+v", e, want[i])
		}
	}
}

// TestTornWrites cuts and damages the end of a journal at every byte: what was acknowledged before the
// last commit is there, and the store works on.
func TestTornWrites(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	for i := range 3 {
		if _, err := s.commit([]op{put(fmt.Sprint("k", i), `"some value"`)}); err != nil {
			t.Fatal(err)
		}
	}
	before := s.journal.size
	if _, err := s.commit([]op{put("last", `"unacknowledged"`)}); err != nil {
		t.Fatal(err)
	}
	closeStore()
	whole, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := before; cut < int64(len(whole)); cut++ {
		damaged := bytes.Clone(whole)
		damaged[cut] ^= 0xff
		for _, content := range [][]byte{whole[:cut], damaged} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "journal"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			s, closeStore := open(t, dir)
			if all, _ := s.list("k", 0, false); len(all) != 3 {
				t.Fatalf("cut at %d: %d entries", cut, len(all))
			}
			if _, err := s.commit([]op{put("next", `1`)}); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			closeStore()
			s, closeStore = open(t, dir)
			if _, ok := s.get("next"); !ok {
				t.Fatalf("cut at %d: a commit after it is lost", cut)
			}
			closeStore()
		}
	}
}

func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	value := `"` + strings.Repeat("x", 256<<10) + `"`
	for range 40 {
		if _, err := s.commit([]op{put("big", value)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.commit([]op{{Delete: "big"}}); err != nil {
		t.Fatal(err)
	}
	revision, err := s.commit([]op{put("small", `1`)})
	if err != nil {
		t.Fatal(err)
	}
	closeStore()
	info, err := os.Stat(filepath.Join(dir, "journal"))
	if err != nil || info.Size() > 6<<20 {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
	again, closeAgain := open(t, dir)
	defer closeAgain()
	if e, ok := again.get("small"); !ok || e.Revision != revision || again.revision != revision {
		t.Errorf("%+v at %d, want %d", e, again.revision, revision)
	}
}

func TestTake(t *testing.T) {
	s, closeStore := open(t, t.TempDir())
	defer closeStore()
	if _, err := s.commit([]op{put("q/1", `1`), put("q/2", `2`), put("other", `3`)}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	take := func(after time.Duration) string {
		e, _, _ := s.take("q/", now.Add(after), time.Minute)
		return e.Key
	}
	if a, b, c := take(0), take(1), take(2); a != "q/1" || b != "q/2" || c != "" {
		t.Errorf("took %q, %q, %q", a, b, c)
	}
	if again := take(2 * time.Minute); again != "q/1" {
		t.Errorf("took %q after the lease ran out", again)
	}
	if _, err := s.commit([]op{{Delete: "q/1"}, {Delete: "q/2"}}); err != nil {
		t.Fatal(err)
	}
	if left := take(time.Hour); left != "" {
		t.Errorf("took %q, which is done", left)
	}
}

func TestWatch(t *testing.T) {
	s, closeStore := open(t, t.TempDir())
	defer closeStore()
	changes, stop := s.watch("order/")
	defer stop()
	if _, err := s.commit([]op{put("order/1", `1`), put("queue/1", `1`)}); err != nil {
		t.Fatal(err)
	}
	if got := <-changes; len(got) != 1 || got[0].Key != "order/1" {
		t.Errorf("saw %+v", got)
	}
	slow, stopSlow := s.watch("")
	defer stopSlow()
	for range 100 {
		if _, err := s.commit([]op{put("x", `1`)}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for range slow {
		seen++
	}
	if seen == 0 || seen >= 100 {
		t.Errorf("a slow watcher saw %d of 100 changes before it was let go", seen)
	}
}

func FuzzDecode(f *testing.F) {
	record, err := encode(commit{7, []change{{"a", json.RawMessage(`1`)}, {Key: "b"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Add(append(record, 1, 2, 3))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			c, n, err := decode(r)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errTorn) {
					t.Fatal(err)
				}
				return
			}
			again, err := encode(c)
			if err != nil || n < headerSize {
				t.Fatalf("%+v: %v, %d bytes", c, err, n)
			}
			if back, _, err := decode(bytes.NewReader(again)); err != nil || back.Revision != c.Revision || len(back.Changes) != len(c.Changes) {
				t.Fatalf("%+v came back as %+v, %v", c, back, err)
			}
		}
	})
}
