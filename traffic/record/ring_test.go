package record

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func TestReadsInOrder(t *testing.T) {
	ring := NewRing(8)
	ring.Put(&Record{Path: "before"})
	reader := ring.Reader()
	for i := range 5 {
		ring.Put(&Record{Path: fmt.Sprint(i)})
	}
	var got []string
	show := func(r *Record) { got = append(got, r.Clone().Path) }
	if n, lost := reader.Read(2, show); n != 2 || lost != 0 {
		t.Errorf("%d, %d lost", n, lost)
	}
	if n, lost := reader.Read(100, show); n != 3 || lost != 0 || fmt.Sprint(got) != "[0 1 2 3 4]" {
		t.Errorf("%d, %d lost: %v", n, lost, got)
	}
	got = nil
	for i := range 20 {
		ring.Put(&Record{Path: fmt.Sprint(i)})
	}
	if n, lost := reader.Read(100, show); n != 8 || lost != 12 || got[0] != "12" || got[7] != "19" {
		t.Errorf("%d, %d lost: %v", n, lost, got)
	}
}

// TestTextsAreOwn changes the memory that a record's texts were in.
func TestTextsAreOwn(t *testing.T) {
	ring := NewRing(8)
	reader := ring.Reader()
	memory := []byte("/secret")
	ring.Put(&Record{Path: unsafe.String(&memory[0], len(memory)), Agent: string(make([]byte, 3*longestText))})
	copy(memory, "/broken")
	reader.Read(1, func(r *Record) {
		if r.Path != "/secret" || len(r.Agent) != longestText {
			t.Errorf("%q, %d bytes", r.Path, len(r.Agent))
		}
	})
}

// TestNobodyWaits has a reader hang in a record while the ring goes round.
func TestNobodyWaits(t *testing.T) {
	ring := NewRing(8)
	reader := ring.Reader()
	ring.Put(&Record{Path: "0"})
	reader.Read(1, func(*Record) {
		for i := range 16 {
			ring.Put(&Record{Path: fmt.Sprint(i + 1)})
		}
	})
	var got []string
	n, lost := reader.Read(100, func(r *Record) { got = append(got, r.Path) })
	if uint64(n)+lost != 16 || lost < 8 {
		t.Errorf("%v, %d lost", got, lost)
	}
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := NewRing(16)
		reader, other := ring.Reader(), ring.Reader()
		defer reader.Close()
		other.Close()
		began := time.Now()
		go func() {
			time.Sleep(time.Minute)
			ring.Put(&Record{})
			time.Sleep(time.Minute)
			for range 4 {
				ring.Put(&Record{})
			}
		}()
		reader.Wait(t.Context(), time.Second)
		if waited := time.Since(began); waited != time.Minute+time.Second {
			t.Errorf("one record after %s", waited)
		}
		reader.Read(100, func(*Record) {})
		reader.Wait(t.Context(), time.Second)
		if waited := time.Since(began); waited != 2*time.Minute {
			t.Errorf("a quarter of the ring after %s", waited)
		}
		reader.Read(100, func(*Record) {})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		reader.Wait(ctx, time.Hour)
	})
}

// TestManyAtOnce writes from many goroutines while two read; each record is seen whole, or counted as lost.
func TestManyAtOnce(t *testing.T) {
	ring := NewRing(256)
	const writers, each = 8, 2000
	ctx, cancel := context.WithCancel(t.Context())
	var reading, writing sync.WaitGroup
	for range 2 {
		reader := ring.Reader()
		reading.Go(func() {
			var seen, lost uint64
			for done := false; !done; {
				done = ctx.Err() != nil
				reader.Wait(ctx, time.Millisecond)
				for {
					n, missed := reader.Read(64, func(r *Record) {
						if r.Path != r.Host || r.Status != len(r.Path) {
							t.Errorf("torn: %q %q %d", r.Path, r.Host, r.Status)
						}
					})
					seen, lost = seen+uint64(n), lost+missed
					if n == 0 {
						break
					}
				}
			}
			if seen+lost != writers*each {
				t.Errorf("%d seen, %d lost", seen, lost)
			}
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				path := fmt.Sprintf("/%d/%d", w, i)
				ring.Put(&Record{Path: path, Host: path, Status: len(path)})
			}
		})
	}
	writing.Wait()
	cancel()
	reading.Wait()
}

func BenchmarkPut(b *testing.B) {
	ring := NewRing(0)
	r := Record{Door: "gateway", ID: "0af7651916cd43dd8448eb211c80319c", Method: "GET", Host: "web.test", Path: "/a/b/c", Agent: "curl/8"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ring.Put(&r)
		}
	})
}
