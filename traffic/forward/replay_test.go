package forward

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// TestReplay sends a body any number of times, each attempt reading as much of it as it likes: as
// long as rewind permits, the next one reads it from its beginning.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 100, replayBytes - 1, replayBytes, replayBytes + 1, 2 * replayBytes}).Draw(t, "size")
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i * 7)
		}
		src := io.Reader(bytes.NewReader(body))
		switch rapid.IntRange(0, 2).Draw(t, "source") {
		case 1:
			src = iotest.DataErrReader(src)
		case 2:
			src = iotest.HalfReader(src)
		}
		r := newReplay(src)
		most := 0
		for {
			n := rapid.IntRange(0, size+1).Draw(t, "read")
			got := make([]byte, n)
			b := r.body()
			read, err := io.ReadFull(b, got)
			b.Close()
			most = max(most, read)
			if !bytes.Equal(got[:read], body[:min(n, size)]) || err != nil && n <= size {
				t.Fatalf("read %d of %d: %v", read, n, err)
			}
			if !rapid.Bool().Draw(t, "again") {
				break
			}
			if r.rewind() {
				continue
			}
			if most <= replayBytes/2 {
				t.Fatalf("can't be sent again after %d bytes", most)
			}
			break
		}
		if r.count() < int64(most) {
			t.Fatalf("%d bytes counted, %d read", r.count(), most)
		}
		if r.close() || r.rewind() {
			t.Fatal("goes on after the end")
		}
	})
}

// TestReplayOfHangingReader begins a second attempt while the first is inside Read: what that one
// gets belongs to the second.
func TestReplayOfHangingReader(t *testing.T) {
	pr, pw := io.Pipe()
	r := newReplay(pr)
	first := r.body()
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 10)
		for {
			if _, err := first.Read(buf); err != nil {
				if !errors.Is(err, errBodyLeft) {
					t.Errorf("first attempt: %v", err)
				}
				return
			}
		}
	})
	if _, err := pw.Write([]byte("one ")); err != nil {
		t.Fatal(err)
	}
	for r.hangs() < 4 { // the first attempt asks for more
		continue
	}
	if !r.rewind() {
		t.Fatal("can't be sent again")
	}
	second := r.body()
	var got []byte
	wg.Go(func() {
		var err error
		if got, err = io.ReadAll(second); err != nil {
			t.Errorf("second attempt: %v", err)
		}
	})
	for _, part := range []string{"two ", "three"} {
		if _, err := pw.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	pw.Close()
	wg.Wait()
	if string(got) != "one two three" {
		t.Fatalf("%q", got)
	}
}

// hangs gives how much was read once somebody waits for more, else 0.
func (b *replay) hangs() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.reading {
		return 0
	}
	return b.read
}

func TestReplayEnds(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	r := newReplay(pr)
	b := r.body()
	failed := make(chan error)
	go func() {
		_, err := b.Read(make([]byte, 1))
		failed <- err
	}()
	for !func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.reading }() {
		continue
	}
	if !r.close() {
		t.Fatal("nobody hangs")
	}
	if r.rewind() {
		t.Fatal("sent again after the end")
	}
	pw.CloseWithError(io.ErrUnexpectedEOF) // as a deadline does
	if err := <-failed; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, errBodyLeft) {
		t.Fatal(err)
	}
}
