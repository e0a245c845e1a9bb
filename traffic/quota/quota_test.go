package quota

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marucloud/maru/traffic/policy"
)

func key(name string) (k policy.QuotaKey) {
	copy(k[:], name)
	return k
}

func counter(t *testing.T, folder string) *Counter {
	t.Helper()
	return New(folder, slog.New(slog.DiscardHandler))
}

func share(t *testing.T, counters ...*Counter) {
	t.Helper()
	for range 2 {
		for _, c := range counters {
			if err := c.sync(time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// used tells what was used of a share, and uses nothing.
func used(c *Counter, k policy.QuotaKey, ends time.Time) int64 {
	n, _ := c.Take(k, ends, 0)
	return n
}

// TestProxiesCountTogether: what one has counted the other knows, and the one that follows, and nothing twice.
func TestProxiesCountTogether(t *testing.T) {
	folder := t.TempDir()
	ends := time.Now().Add(time.Hour)
	one, two := counter(t, folder), counter(t, folder)
	var all sync.WaitGroup
	for _, c := range []*Counter{one, two} {
		for range 4 {
			all.Go(func() {
				for range 100 {
					c.Take(key("a"), ends, 1000)
				}
			})
		}
		all.Go(func() {
			for range 20 {
				if err := c.sync(time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	share(t, one, two)
	three := counter(t, folder)
	for _, c := range []*Counter{one, two, three} {
		if n := used(c, key("a"), ends); n != 800 {
			t.Errorf("%d are used", n)
		}
		if n := used(c, key("b"), ends); n != 0 {
			t.Errorf("%d are used of another share", n)
		}
	}
	for range 200 {
		if _, ok := three.Take(key("a"), ends, 1000); !ok {
			t.Fatal("refused too early")
		}
	}
	if n, ok := three.Take(key("a"), ends, 1000); ok || n != 1000 {
		t.Errorf("%d are used: %v", n, ok)
	}
	if _, ok := three.Take(key("a"), ends, 2000); !ok {
		t.Error("a larger quota does not count")
	}
	if _, ok := three.Take(key("a"), ends.Add(time.Hour), 1); !ok {
		t.Error("the next period is not another one")
	}
}

// TestFileIsWrittenAnew: it does not grow for ever, keeps what counts, and those who have it open follow.
func TestFileIsWrittenAnew(t *testing.T) {
	folder := t.TempDir()
	one, two := counter(t, folder), counter(t, folder)
	ends, over := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	for i := range 40_000 {
		k := key("a")
		if i%2 == 0 {
			_, _ = rand.Read(k[:])
			one.Take(k, over, 10)
		} else {
			one.Take(k, ends, 1e9)
		}
		if i%1000 == 0 {
			share(t, one)
		}
	}
	two.Take(key("a"), ends, 1e9)
	share(t, one, two)
	info, err := os.Stat(filepath.Join(folder, fileName))
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("%v %v", info.Size(), err)
	}
	for _, c := range []*Counter{one, two, counter(t, folder)} {
		if n := used(c, key("a"), ends); n != 20_001 {
			t.Errorf("%d are used", n)
		}
	}
}

// TestTornFile: a line that was not written whole, and what is none, is passed over, and spoils no other.
func TestTornFile(t *testing.T) {
	folder := t.TempDir()
	ends := time.Now().Add(time.Hour)
	one := counter(t, folder)
	one.Take(key("a"), ends, 10)
	share(t, one)
	path := filepath.Join(folder, fileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := append(append(append(bytes.Clone(data), "00000000 nonsense\n"...), data...), data[:20]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	two := counter(t, folder)
	two.Take(key("a"), ends, 10)
	share(t, two)
	if n := used(counter(t, folder), key("a"), ends); n != 3 {
		t.Errorf("%d are used", n)
	}
}

// TestKeptEachSecond: also when the process ends, and without a folder not at all.
func TestKeptEachSecond(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Hour)
		c := counter(t, folder)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(ctx)
		}()
		c.Take(key("a"), ends, 10)
		time.Sleep(every + time.Millisecond)
		synctest.Wait()
		if n := used(counter(t, folder), key("a"), ends); n != 1 {
			t.Errorf("%d are kept after a second", n)
		}
		c.Take(key("a"), ends, 10)
		cancel()
		<-done
		if n := used(counter(t, folder), key("a"), ends); n != 2 {
			t.Errorf("%d are kept at the end", n)
		}
		none := counter(t, "")
		none.Run(t.Context())
		if _, ok := none.Take(key("a"), ends, 1); !ok {
			t.Error("nothing is counted without a folder")
		}
	})
}

// FuzzParse: what is read is what is written, and nothing else is.
func FuzzParse(f *testing.F) {
	f.Add([]byte("00000000 x"), int64(5), int64(7), []byte("key"))
	f.Fuzz(func(t *testing.T, line []byte, ends, n int64, name []byte) {
		if k, e, m, ok := parse(line); ok {
			var b bytes.Buffer
			if write(&b, k, e, m); m < 0 {
				t.Fatalf("%q has %d", line, m)
			}
		}
		if n < 0 {
			n = ^n
		}
		var k policy.QuotaKey
		copy(k[:], name)
		var b bytes.Buffer
		write(&b, k, ends, n)
		if k2, e, m, ok := parse(bytes.TrimSuffix(b.Bytes(), []byte("\n"))); !ok || k2 != k || e != ends || m != n {
			t.Fatalf("%q is read as %x %d %d %v", b.Bytes(), k2, e, m, ok)
		}
	})
}
