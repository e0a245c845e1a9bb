package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

// live writes to an instance's log and goes on to hold it.
func live(t testing.TB, l *Logs, instance, text string, opts segment.Options) *segment.Writer {
	t.Helper()
	w, err := segment.NewWriter(l.Dir(shop.Service("web").Workload("1"), instance), 1, opts)
	check(t, err)
	check(t, w.Copy(segment.Stdout, strings.NewReader(text)))
	t.Cleanup(func() { check(t, w.Close()) })
	return w
}

func files(t testing.TB, l *Logs) string {
	t.Helper()
	var names []string
	check(t, filepath.WalkDir(l.root, func(path string, d os.DirEntry, err error) error {
		if d != nil && !d.IsDir() {
			names = append(names, filepath.Base(filepath.Dir(path))+"/"+d.Name())
		}
		return err
	}))
	return strings.Join(names, " ")
}

func TestCompress(t *testing.T) {
	l := newLogs(t, Config{})
	lines := strings.Repeat("the same again and again\n", 5000)
	live(t, l, "web-1-live", lines, segment.Options{SegmentSize: 100 << 10}) // of which some are too small
	write(t, l, "web", "web-1-ended", 1, lines)
	write(t, l, "web", "web-1-small", 1, "not worth it\n")
	before := read(t, l, maru.LogQuery{})
	dir := l.Dir(shop.Service("web").Workload("1"), "web-1-ended")
	info, err := os.Stat(filepath.Join(dir, "000001-000001.log"))
	check(t, err)
	check(t, l.compress(t.Context()))
	packedAll := func() {
		t.Helper()
		all, err := l.scan(t.Context(), &filter{})
		check(t, err)
		compressed := 0
		for _, k := range all {
			if k.Compressed {
				compressed++
			} else if !k.growing && k.Size >= smallest {
				t.Errorf("%s is not compressed", k.path())
			}
		}
		if compressed < 3 || strings.Contains(files(t, l), "web-1-small/000001-000001.log.zst") {
			t.Errorf("got %s", files(t, l))
		}
	}
	packedAll()
	if after := read(t, l, maru.LogQuery{}); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("%d lines became %d", len(before), len(after))
	}
	packed, err := os.Stat(filepath.Join(dir, "000001-000001.log.zst"))
	check(t, err)
	if !packed.ModTime().Equal(info.ModTime()) || packed.Size() > info.Size()/5 {
		t.Errorf("of %d bytes at %v came %d at %v", info.Size(), info.ModTime(), packed.Size(), packed.ModTime())
	}

	// A crash between the last two steps leaves both: that is no line twice, and is put right.
	check(t, os.WriteFile(filepath.Join(dir, "000001-000001.log"), unpack(t, filepath.Join(dir, "000001-000001.log.zst")), 0o640))
	if after := read(t, l, maru.LogQuery{}); len(after) != len(before) {
		t.Errorf("%d lines became %d", len(before), len(after))
	}
	check(t, l.compress(t.Context()))
	packedAll()
	if strings.Contains(files(t, l), "web-1-ended/000001-000001.log ") {
		t.Error("both remain")
	}
}

// unpack is what any zstd program does.
func unpack(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	r, err := zstd.NewReader(f)
	check(t, err)
	defer r.Close()
	data, err := io.ReadAll(r)
	check(t, err)
	return data
}

func TestRetain(t *testing.T) {
	now := time.Now()
	age := func(l *Logs, instance, file string, days int) {
		path := filepath.Join(l.Dir(shop.Service("web").Workload("1"), instance), file)
		check(t, os.Chtimes(path, time.Time{}, now.Add(-time.Duration(days)*24*time.Hour)))
	}
	setUp := func(cfg Config) *Logs {
		l := newLogs(t, cfg)
		kilobyte := strings.Repeat("x", 1024-segment.HeaderSize-1) + "\n"
		for i, instance := range []string{"a", "b"} { // ended
			for range 3 {
				write(t, l, "web", instance, 1, kilobyte)
			}
			for n := range 3 {
				age(l, instance, fmt.Sprintf("000001-%06d.log", n+1), 20-i-2*n)
			}
		}
		w := live(t, l, "live", kilobyte, segment.Options{SegmentSize: 1024})
		for range 2 {
			check(t, w.Copy(segment.Stdout, strings.NewReader(kilobyte)))
		}
		for n := range 3 {
			age(l, "live", fmt.Sprintf("000001-%06d.log", n+1), 40-n)
		}
		return l
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
		gone int
	}{
		{"all is kept", Config{MaxAge: -1, MaxBytes: -1}, "a1 a2 a3 b1 b2 b3 live1 live2 live3", 0},
		{"within the limits", Config{MaxAge: 50 * 24 * time.Hour, MaxBytes: 9 << 10}, "a1 a2 a3 b1 b2 b3 live1 live2 live3", 0},
		{"age", Config{MaxAge: 17*24*time.Hour + time.Hour}, "a3 b2 b3 live3", 0},
		{"age of all", Config{MaxAge: time.Hour}, "live3", 2},
		{"size: ended first", Config{MaxAge: -1, MaxBytes: 6 << 10}, "a3 b2 b3 live1 live2 live3", 0},
		{"size: then the others", Config{MaxAge: -1, MaxBytes: 2 << 10}, "live2 live3", 2},
		{"size: never what grows", Config{MaxAge: -1, MaxBytes: 1}, "live3", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := setUp(tt.cfg)
			before := strings.Count(files(t, l), "log")
			removed, err := l.Retain(t.Context())
			check(t, err)
			got := strings.NewReplacer("/000001-00000", "", ".log", "").Replace(files(t, l))
			if got != tt.want {
				t.Errorf("kept %s, want %s", got, tt.want)
			}
			kept := strings.Count(tt.want, " ") + 1
			if removed.Segments != before-kept || removed.Bytes != int64(before-kept)<<10 || removed.Instances != tt.gone || (removed.Segments > 0) == removed.Until.IsZero() {
				t.Errorf("it says %+v", removed)
			}
			if again, err := l.Retain(t.Context()); err != nil || again != (Removed{}) {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "web", "web-1-a", 1, "a\n")
	write(t, l, "web", "web-1-b", 1, "b\n")
	old := func(path string) { check(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour))) }
	dir := l.Dir(shop.Service("web").Workload("1"), "web-1-a")
	for _, name := range []string{".new-000001", ".zst-000001-000001.log.zst", "somebody's"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o640))
		old(filepath.Join(dir, name))
	}
	check(t, os.WriteFile(filepath.Join(dir, ".new-000002"), nil, 0o640)) // just now
	empty := l.Dir(other.Service("web").Workload("1"), "web-1-c")
	check(t, os.MkdirAll(empty, 0o750))
	for d := empty; d != l.root; d = filepath.Dir(d) {
		old(d)
	}
	_, err := l.Retain(t.Context())
	check(t, err)
	if got, want := files(t, l), "web-1-a/.new-000002 web-1-a/000001-000001.log web-1-a/somebody's web-1-b/000001-000001.log"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := os.Stat(filepath.Dir(empty)); err == nil {
		t.Error("an empty folder remains")
	}
}

var other = maru.Scope{Project: "default", Environment: "production", App: "other"}

func TestRun(t *testing.T) {
	l := newLogs(t, Config{Interval: time.Millisecond, MaxBytes: 100 << 10})
	write(t, l, "web", "web-1-a", 1, strings.Repeat("the same again and again\n", 5000)) // too much, were it not compressed
	write(t, l, "web", "web-1-b", 1, strings.Repeat("0123456789abcdef\n", 1000))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); files(t, l) != "web-1-a/000001-000001.log.zst web-1-b/000001-000001.log"; {
		if time.Now().After(deadline) {
			t.Fatal(files(t, l))
		}
	}
	cancel()
	check(t, <-done)
}

// Whatever is compressed is the same at every place.
func TestCompressedReadsAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Repeat([]byte(rapid.StringN(1, 50, 100).Draw(t, "data")), rapid.IntRange(0, 4000).Draw(t, "times"))
		var packed bytes.Buffer
		if err := compress(&packed, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		c, err := newCompressed(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			off := rapid.IntRange(0, len(data)+10).Draw(t, "offset")
			p := make([]byte, rapid.IntRange(0, 2*frameSize).Draw(t, "size"))
			n, err := c.ReadAt(p, int64(off))
			want := data[min(off, len(data)):min(off+len(p), len(data))]
			if !bytes.Equal(p[:n], want) || (n < len(p)) != errors.Is(err, io.EOF) {
				t.Fatalf("at %d: %d bytes, %v; want %d", off, n, err, len(want))
			}
		}
	})
}

func FuzzCompressed(f *testing.F) {
	for _, data := range []string{"", "abc\n", strings.Repeat("the same again\n", 10_000)} {
		var packed bytes.Buffer
		check(f, compress(&packed, strings.NewReader(data)))
		f.Add(packed.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := newCompressed(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if c.size > int64(len(data))*frameSize {
			t.Fatalf("%d bytes of %d", c.size, len(data))
		}
		p := make([]byte, 1000)
		for off := int64(0); off < min(c.size, 1<<20); off += frameSize / 2 {
			if n, err := c.ReadAt(p, off); err == nil && n < len(p) {
				t.Fatalf("%d bytes and no error", n)
			}
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("1.2.3")
	f.Add("0.0.0")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseCursor(s)
		if err == nil && p.String() != s {
			t.Errorf("%q comes back as %q", s, p)
		}
		if err != nil && maru.KindOf(err) != maru.Invalid {
			t.Error(err)
		}
	})
}
