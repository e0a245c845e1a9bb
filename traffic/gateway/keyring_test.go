package gateway

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru/internal/sockets"
)

// TestTicketKeysRotate forgets each key after a day and a half.
func TestTicketKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := newTickets()
		tk.log = slog.New(slog.DiscardHandler)
		tk.load(nil, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		var seen [][][32]byte
		done := make(chan struct{})
		go func() {
			defer close(done)
			tk.run(ctx, func() { seen = append(seen, tk.derived("")) })
		}()
		first := tk.derived("")
		if len(first) != 1 {
			t.Fatal(first)
		}
		time.Sleep(4*tk.life + time.Minute)
		synctest.Wait()
		cancel()
		<-done
		if len(seen) != 4 {
			t.Fatalf("rotated %d times", len(seen))
		}
		for i, keys := range seen {
			if len(keys) != min(i+2, tk.count) || slices.Contains(keys, first[0]) != (i < tk.count-1) {
				t.Errorf("after %d: %d keys", i+1, len(keys))
			}
		}
	})
}

// TestTicketKeysAreHandedOver gives the process that follows the same keys, and makes others for other
// rules.
func TestTicketKeysAreHandedOver(t *testing.T) {
	var file *os.File
	keep := func(_ string, f *os.File) (err error) {
		file, err = sockets.Duplicate(f, "tickets")
		return err
	}
	kept := func(string) (*os.File, error) { return sockets.Duplicate(file, "tickets") }
	log := slog.New(slog.DiscardHandler)
	now := time.Now()
	ring := func(keep func(string, *os.File) error) *keyring {
		k := newTickets()
		k.keep, k.log = keep, log
		return k
	}
	one, two := ring(keep), ring(keep)
	one.load(nil, now)
	defer func() { file.Close() }()
	two.load(kept, now.Add(time.Hour))
	if !slices.Equal(one.derived(""), two.derived("")) || !slices.Equal(one.derived("a"), two.derived("a")) {
		t.Error("the keys are others")
	}
	if one.derived("a")[0] == one.derived("")[0] || one.derived("a")[0] == one.derived("b")[0] {
		t.Error("other rules have the same keys")
	}
	three := ring(nil)
	three.load(kept, now.Add(one.life))
	if got := three.derived(""); len(got) != 2 || got[1] != one.derived("")[0] {
		t.Error("a key that is old enough goes on making tickets")
	}
	four := ring(nil)
	four.load(kept, now.Add(time.Duration(one.count)*one.life))
	if got := four.derived(""); len(got) != 1 || got[0] == one.derived("")[0] {
		t.Error("a key that is too old is still there")
	}
}
