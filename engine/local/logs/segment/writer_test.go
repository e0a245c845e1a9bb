package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// records reads all records of a folder, and fails on anything that is none.
func records(t rapid.TB, dir string) []Record {
	t.Helper()
	files, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []Record
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.String()))
		if err != nil {
			t.Fatal(err)
		}
		var last time.Time
		for line := range bytes.Lines(data) {
			r, ok := Decode(bytes.TrimSuffix(line, []byte("\n")))
			if !ok || !bytes.HasSuffix(line, []byte("\n")) {
				t.Fatalf("%s: %q is not a record", f, line)
			}
			if r.Time.Before(last) {
				t.Fatalf("%s: time goes back at %q", f, line)
			}
			last = r.Time
			all = append(all, r)
		}
	}
	return all
}

func text(all []Record) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%s %v %s\n", r.Stream, r.Partial, r.Line)
	}
	return b.String()
}

func newWriter(t testing.TB, dir string, opts Options) *Writer {
	t.Helper()
	w, err := NewWriter(dir, 1, opts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWriter(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		opts           Options
	}{
		{"nothing", "", "", Options{}},
		{"lines", "a\nb\n", "stdout false a\nstdout false b\n", Options{}},
		{"empty lines", "\n\n", "stdout false \nstdout false \n", Options{}},
		{"no end", "a\nb", "stdout false a\nstdout false b\n", Options{}},
		{"carriage return", "a\r\nb\rc\n", "stdout false a\nstdout false b\rc\n", Options{}},
		{"long", "abcdefghij\nk\n", "stdout true abcd\nstdout true efgh\nstdout false ij\nstdout false k\n", Options{LineSize: 4}},
		{"exactly long", "abcd\nefgh\n", "stdout false abcd\nstdout false efgh\n", Options{LineSize: 4}},
		{"long without end", "abcdef", "stdout true abcd\nstdout false ef\n", Options{LineSize: 4}},
		{"characters stay whole", "aaa마루\n", "stdout true aaa\nstdout true 마\nstdout false 루\n", Options{LineSize: 4}},
		{"not text", "\xff\xfe\xfd\xfc\xfb\n", "stdout true \xff\xfe\xfd\xfc\nstdout false \xfb\n", Options{LineSize: 4}},
	} {
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader, "at once": iotest.DataErrReader,
		} {
			t.Run(tt.name+" "+how, func(t *testing.T) {
				dir := t.TempDir()
				w := newWriter(t, dir, tt.opts)
				if err := w.Copy(Stdout, reader(strings.NewReader(tt.in))); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if got := text(records(t, dir)); got != tt.want {
					t.Errorf("got\n%swant\n%s", got, tt.want)
				}
			})
		}
	}
}

type chunks [][]byte

func (c *chunks) Read(b []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; len((*c)[0]) == 0 {
		*c = (*c)[1:]
	}
	return n, nil
}

// Whatever comes in whatever pieces, into segments of whatever size, comes out.
func TestWriterKeepsAll(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		lineSize := rapid.IntRange(4, 40).Draw(t, "lineSize")
		w, err := NewWriter(dir, 1, Options{LineSize: lineSize, SegmentSize: rapid.Int64Range(1, 4000).Draw(t, "segment"), Limit: -1})
		if err != nil {
			t.Fatal(err)
		}
		in := chunks(rapid.SliceOf(rapid.SliceOfN(rapid.SampledFrom([]byte("ab\n\xff\xeb\xa7")), 1, 200)).Draw(t, "chunks"))
		var want []byte
		for _, c := range in {
			want = append(want, c...)
		}
		if len(want) > 0 && want[len(want)-1] != '\n' {
			want = append(want, '\n')
		}
		if err := w.Copy(Stderr, &in); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, r := range records(t, dir) {
			if len(r.Line) > lineSize {
				t.Fatalf("record of %d bytes", len(r.Line))
			}
			got = append(got, r.Line...)
			if !r.Partial {
				got = append(got, '\n')
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestWriterRotates(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Options{SegmentSize: 500, Limit: 2000})
	in := &bytes.Buffer{}
	for i := range 100 {
		fmt.Fprintf(in, "line %03d\n", i)
	}
	if err := w.Copy(Stdout, iotest.OneByteReader(in)); err != nil {
		t.Fatal(err)
	}
	files, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for i, f := range files {
		total += f.Size
		growing, err := Growing(filepath.Join(dir, f.String()))
		if err != nil {
			t.Fatal(err)
		}
		if growing != (i == len(files)-1) {
			t.Errorf("%s growing: %v", f, growing)
		}
	}
	if total > 2000 || total < 1000 {
		t.Errorf("%d bytes are kept of at most 2000", total)
	}
	got := records(t, dir)
	if last := got[len(got)-1]; string(last.Line) != "line 099" {
		t.Errorf("the last line is %q", last.Line)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestWriterGoesOnBehindWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	for _, attempt := range []int{1, 1, 2} {
		w, err := NewWriter(dir, attempt, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Copy(Stdout, strings.NewReader(fmt.Sprintln("attempt", attempt))); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(files[0].Name, files[1].Name, files[2].Name); got != "000001-000001.log 000001-000002.log 000002-000001.log" {
		t.Error(got)
	}
}

func TestWriterClockSetBack(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, now := range []time.Time{at, at.Add(-time.Millisecond), at.Add(-time.Hour)} {
		w.now = func() time.Time { return now }
		if err := w.Copy(Stdout, strings.NewReader("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	got := records(t, dir)
	if len(got) != 3 || !got[1].Time.Equal(at) || !got[2].Time.Equal(at.Add(-time.Hour)) {
		t.Errorf("got %v", got)
	}
}

func TestWriterFullDisk(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, dir, Options{})
	room := 100
	w.write = func(f *os.File, b []byte) (int, error) {
		n := min(room, len(b))
		room -= n
		if _, err := f.Write(b[:n]); err != nil {
			return 0, err
		}
		if n < len(b) {
			return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return n, nil
	}
	say := func(s string) {
		if err := w.Copy(Stdout, strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	say("one\ntwo\nthree\nfour\n")
	say("five\n")
	if got := text(records(t, dir)); got != "stdout false one\nstdout false two\n" {
		t.Errorf("in between: %q", got)
	}
	room = 1000
	say("six\n")
	want := "stdout false one\nstdout false two\nstderr false maru: 3 lines (16 bytes) were dropped here: no space left on device\nstdout false six\n"
	if got := text(records(t, dir)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A real full file system: nothing waits, nothing is torn, the loss is told.
func TestWriterFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("can't mount a tmpfs: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	w := newWriter(t, dir, Options{})
	if err := w.Copy(Stdout, strings.NewReader(strings.Repeat("0123456789\n", 10_000))); err != nil {
		t.Fatal(err)
	}
	before := records(t, dir)
	if len(before) == 0 || len(before) == 10_000 {
		t.Fatalf("%d records fit", len(before))
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=10m"); err != nil {
		t.Fatal(err)
	}
	if err := w.Copy(Stdout, strings.NewReader("again\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	after := records(t, dir)[len(before):]
	want := fmt.Sprintf("maru: %d lines (%d bytes) were dropped here: no space left on device", 10_000-len(before), (10_000-len(before))*11)
	if len(after) != 2 || string(after[0].Line) != want || string(after[1].Line) != "again" {
		t.Errorf("got\n%swant %s", text(after), want)
	}
}

func TestCopyEnds(t *testing.T) {
	w := newWriter(t, t.TempDir(), Options{})
	fault := errors.New("fault")
	for err, want := range map[error]error{io.EOF: nil, os.ErrClosed: nil, syscall.EIO: nil, fault: fault} {
		if got := w.Copy(Stdout, iotest.ErrReader(err)); !errors.Is(got, want) {
			t.Errorf("%v gives %v", err, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("2026-01-02T15:04:05.000000000Z stdout F hello"))
	f.Add([]byte("2026-02-29T15:04:05.000000000Z stderr P hello"))
	f.Add([]byte("0000-01-01T00:00:00.000000000Z stderr P "))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, ok := Decode(data)
		if !ok {
			return
		}
		stamp := r.Time.AppendFormat(nil, timeLayout)
		if back := append(appendHeader(nil, stamp, r.Stream, r.Partial), r.Line...); !bytes.Equal(back, data) {
			t.Errorf("%q comes back as %q", data, back)
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("000001-000002.log")
	f.Add("000001-000002.log.zst")
	f.Add("1000001-000002.log")
	f.Fuzz(func(t *testing.T, file string) {
		if n, ok := ParseName(file); ok && n.String() != file {
			t.Errorf("%q comes back as %q", file, n)
		}
	})
}

func FuzzWriter(f *testing.F) {
	f.Add([]byte("a\nb"), 5)
	f.Fuzz(func(t *testing.T, in []byte, lineSize int) {
		s := splitter{lineSize: max(4, min(lineSize, 1000)), buf: make([]byte, 0, 16)}
		var got []byte
		for r, end := bytes.NewReader(in), false; !end; s.compact() {
			_, err := s.read(r)
			end = err != nil
			for {
				line, partial, ok := s.next(end)
				if !ok {
					break
				}
				if got = append(got, line...); !partial {
					got = append(got, '\n')
				}
			}
		}
		want := append([]byte{}, in...)
		if len(in) > 0 && in[len(in)-1] != '\n' {
			want = append(want, '\n')
		}
		if !bytes.Equal(bytes.ReplaceAll(got, []byte("\r"), nil), bytes.ReplaceAll(want, []byte("\r"), nil)) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	for _, size := range []int{20, 100, 1000} {
		b.Run(fmt.Sprintf("line=%d", size), func(b *testing.B) {
			w := newWriter(b, b.TempDir(), Options{Limit: 64 << 20})
			line := append(bytes.Repeat([]byte{'x'}, size-1), '\n')
			b.SetBytes(int64(size))
			b.ReportAllocs()
			pr, pw, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- w.Copy(Stdout, pr) }()
			batch := bytes.Repeat(line, 1000)
			b.ResetTimer()
			for n := b.N; n > 0; n -= 1000 {
				if _, err := pw.Write(batch[:min(n, 1000)*size]); err != nil {
					b.Fatal(err)
				}
			}
			pw.Close()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}
