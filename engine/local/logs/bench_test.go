package logs

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

// library is four instances' logs of a million lines each of 100 bytes, in plain or compressed form.
func library(b *testing.B, lines int, packed bool) *Logs {
	b.Helper()
	l := newLogs(b, Config{})
	for i := range 4 {
		w, err := segment.NewWriter(l.Dir(shop.Service("web").Workload("1"), fmt.Sprint("web-1-", i)), 1, segment.Options{Limit: -1})
		check(b, err)
		pr, pw, err := os.Pipe()
		check(b, err)
		go func() {
			buf := make([]byte, 0, 64<<10)
			for n := range lines {
				buf = fmt.Appendf(buf, "%07d the line of text that an instance writes again and again, with a number %07d\n", n, n*7919%lines)
				if len(buf) > 60<<10 || n == lines-1 {
					_, _ = pw.Write(buf)
					buf = buf[:0]
				}
			}
			pw.Close()
		}()
		check(b, w.Copy(segment.Stdout, pr))
		check(b, w.Close())
	}
	if packed {
		check(b, l.compress(b.Context()))
	}
	return l
}

const benchLines = 250_000

func BenchmarkRead(b *testing.B) {
	for _, packed := range []bool{false, true} {
		l := library(b, benchLines, packed)
		for _, q := range []struct {
			name string
			maru.LogQuery
		}{
			{"all", maru.LogQuery{}},
			{"pattern", maru.LogQuery{Pattern: "number 0000042$"}},
			{"tail=100", maru.LogQuery{Tail: 100}},
			{"since=end", maru.LogQuery{Since: time.Now().Add(time.Hour)}},
		} {
			b.Run(fmt.Sprintf("%s/compressed=%v", q.name, packed), func(b *testing.B) {
				b.ReportAllocs()
				rounds := 0
				for b.Loop() {
					n := 0
					rounds++
					for _, err := range l.Logs(b.Context(), q.LogQuery) {
						check(b, err)
						n++
					}
					if q.name == "all" {
						if n != 4*benchLines {
							b.Fatal(n)
						}
						b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rounds)/float64(n), "ns/line")
					}
				}
			})
		}
	}
}

// BenchmarkSince goes to the middle of the logs.
func BenchmarkSince(b *testing.B) {
	l := library(b, benchLines, false)
	var middle time.Time
	n := 0
	for e, err := range l.Logs(b.Context(), maru.LogQuery{}) {
		check(b, err)
		if n++; n == 2*benchLines {
			middle = e.Time
			break
		}
	}
	for b.Loop() {
		for _, err := range l.Logs(b.Context(), maru.LogQuery{Since: middle}) {
			check(b, err)
			break
		}
	}
}

// BenchmarkFollow is the time from a write to its line at the reader.
func BenchmarkFollow(b *testing.B) {
	l := newLogs(b, Config{})
	w, err := segment.NewWriter(l.Dir(shop.Service("web").Workload("1"), "web-1-a"), 1, segment.Options{})
	check(b, err)
	pr, pw, err := os.Pipe()
	check(b, err)
	go func() { _ = w.Copy(segment.Stdout, pr) }()
	defer pw.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	seen := make(chan struct{})
	go func() {
		for range l.Logs(ctx, maru.LogQuery{Follow: true}) {
			seen <- struct{}{}
		}
	}()
	for b.Loop() {
		_, err := pw.WriteString("a line\n")
		check(b, err)
		<-seen
	}
}
