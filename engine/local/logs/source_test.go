package logs

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru/engine/local/logs/segment"
)

// bytesSource is a segment in memory.
type bytesSource struct{ *bytes.Reader }

func (b bytesSource) Size() (int64, error) { return b.Reader.Size(), nil }
func (b bytesSource) Close() error         { return nil }

func sourceOf(data []byte) source { return bytesSource{bytes.NewReader(data)} }

func forward(t rapid.TB, data []byte) (lines []string, begins []int64) {
	s := scanner{src: sourceOf(data)}
	for {
		begin := s.off
		line, ok, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return lines, begins
		}
		lines, begins = append(lines, string(line)), append(begins, begin)
	}
}

func backward(t rapid.TB, data []byte) (lines []string, begins []int64) {
	s := scanner{src: sourceOf(data)}
	var err error
	if s.off, err = s.lastEnd(); err != nil {
		t.Fatal(err)
	}
	for {
		line, ok, err := s.prev()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			slices.Reverse(lines)
			slices.Reverse(begins)
			return lines, begins
		}
		lines, begins = append(lines, string(line)), append(begins, s.off)
	}
}

func checkDirections(t rapid.TB, data []byte) {
	lines, begins := forward(t, data)
	back, backBegins := backward(t, data)
	if !slices.Equal(lines, back) || !slices.Equal(begins, backBegins) {
		t.Fatalf("%d lines forward, %d backward", len(lines), len(back))
	}
	var want []byte
	for _, l := range lines {
		want = append(append(want, l...), '\n')
	}
	if !bytes.HasPrefix(data, want) || bytes.IndexByte(data[len(want):], '\n') >= 0 {
		t.Fatal("the lines are not the data")
	}
}

func TestScannerDirections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		for range rapid.IntRange(0, 30).Draw(t, "lines") {
			size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 3*chunkSize)).Draw(t, "size")
			data = append(append(data, bytes.Repeat([]byte{'x'}, size)...), '\n')
		}
		checkDirections(t, append(data, rapid.SliceOfN(rapid.SampledFrom([]byte("ab")), 0, 100).Draw(t, "torn")...))
	})
}

// What seek finds by bisection is what looking at every record finds.
func TestScannerSeek(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data []byte
		second := 0
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			if rapid.IntRange(0, 9).Draw(t, "damage") == 0 {
				data = append(append(data, bytes.Repeat([]byte{0}, rapid.IntRange(0, 2000).Draw(t, "zeros"))...), '\n')
			}
			second += rapid.IntRange(0, 2).Draw(t, "later")
			data = fmt.Appendf(data, "%s stdout F %s\n", at(second).Format("2006-01-02T15:04:05.000000000Z"), bytes.Repeat([]byte{'x'}, rapid.IntRange(0, 500).Draw(t, "size")))
		}
		when := at(rapid.IntRange(-1, second+1).Draw(t, "when"))
		lines, begins := forward(t, data)
		want := int64(len(data))
		for i, l := range lines {
			if r, ok := segment.Decode([]byte(l)); ok && !r.Time.Before(when) {
				want = begins[i]
				break
			}
		}
		s := scanner{src: sourceOf(data)}
		found, err := s.seek(when)
		if err != nil {
			t.Fatal(err)
		}
		if found != (want < int64(len(data))) {
			t.Fatalf("seek to %v says %v", when, found)
		}
		// Damage before the record may be given too: readers skip it.
		for s.off < want {
			line, ok, err := s.next()
			if err != nil || !ok {
				t.Fatalf("at %d: %v %v", s.off, ok, err)
			}
			if r, ok := segment.Decode(line); ok {
				t.Fatalf("seek to %v finds %v", when, r.Time)
			}
		}
		if s.off != want {
			t.Fatalf("seek to %v finds %d, want %d", when, s.off, want)
		}
	})
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.000000000Z stdout F a\n\n\x00\x00b"), int64(1767323045))
	f.Fuzz(func(t *testing.T, data []byte, unix int64) {
		checkDirections(t, data)
		s := scanner{src: sourceOf(data)}
		if _, err := s.seek(time.Unix(unix, 0)); err != nil {
			t.Fatal(err)
		}
		if s.off < 0 || s.off > int64(len(data)) || s.off > 0 && data[s.off-1] != '\n' {
			t.Fatalf("seek ends at %d", s.off)
		}
	})
}
