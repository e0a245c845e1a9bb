package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

var shop = maru.Scope{Project: "default", Environment: "production", App: "shop"}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLogs(t testing.TB, cfg Config) *Logs {
	return New(t.TempDir(), cfg, slog.New(slog.DiscardHandler))
}

// fixture writes a segment of records "SECOND TEXT", SECOND counting from epoch.
var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func at(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }

func fixture(t testing.TB, l *Logs, service, instance string, name segment.Name, records ...string) {
	t.Helper()
	dir := l.Dir(shop.Service(service).Workload("1"), instance)
	check(t, os.MkdirAll(dir, 0o750))
	var b strings.Builder
	last := epoch
	for _, r := range records {
		var second int
		_, err := fmt.Sscanf(r, "%d", &second)
		check(t, err)
		_, text, _ := strings.Cut(r, " ")
		last = at(second)
		fmt.Fprintf(&b, "%s stdout F %s\n", last.Format("2006-01-02T15:04:05.000000000Z"), text)
	}
	path := filepath.Join(dir, name.String())
	check(t, os.WriteFile(path, []byte(b.String()), 0o640))
	check(t, os.Chtimes(path, last, last))
}

// read gives the lines of a query that does not follow.
func read(t testing.TB, l *Logs, q maru.LogQuery) []string {
	t.Helper()
	lines := []string{}
	for e, err := range l.Logs(t.Context(), q) {
		check(t, err)
		lines = append(lines, e.Line)
	}
	return lines
}

func TestQuery(t *testing.T) {
	l := newLogs(t, Config{})
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1, Number: 1}, "1 a1", "3 a3")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1, Number: 2}, "5 a5")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 2, Number: 1}, "7 a7", "9 a9")
	fixture(t, l, "web", "web-1-b", segment.Name{Attempt: 1, Number: 1}, "2 b2", "4 b4", "9 b9")
	fixture(t, l, "db", "db-1-a", segment.Name{Attempt: 1, Number: 1}, "6 d6", "8 d8")
	fixture(t, l, "db", "db-1-empty", segment.Name{Attempt: 1, Number: 1})
	for _, tt := range []struct {
		name, want string
		q          maru.LogQuery
	}{
		{"all", "a1 b2 a3 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{}},
		{"service", "d6 d8", maru.LogQuery{Services: []string{"db"}}},
		{"services", "a1 b2 a3 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{Services: []string{"db", "web"}}},
		{"scope", "a1 b2 a3 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{Scope: shop}},
		{"other scope", "", maru.LogQuery{Scope: maru.Scope{App: "other"}}},
		{"release", "a1 b2 a3 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{Release: "1"}},
		{"other release", "", maru.LogQuery{Release: "2"}},
		{"instance", "b2 b4 b9", maru.LogQuery{Instance: "web-1-b"}},
		{"beginning of instance", "a1 b2 a3 b4 a5 a7 a9 b9", maru.LogQuery{Instance: "web-1"}},
		{"since", "a5 d6 a7 d8 a9 b9", maru.LogQuery{Since: at(5)}},
		{"since between", "d6 a7 d8 a9 b9", maru.LogQuery{Since: at(5).Add(1)}},
		{"since the end", "", maru.LogQuery{Since: at(10)}},
		{"until", "a1 b2 a3 b4 a5", maru.LogQuery{Until: at(5)}},
		{"since until", "a3 b4", maru.LogQuery{Since: at(3), Until: at(4)}},
		{"pattern", "a1 a3 a5 a7 a9", maru.LogQuery{Pattern: "^a"}},
		{"tail", "a9 b9", maru.LogQuery{Tail: 2}},
		{"tail over instances", "a5 d6 a7 d8 a9 b9", maru.LogQuery{Tail: 6}},
		{"tail of more than there is", "a1 b2 a3 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{Tail: 100}},
		{"tail of matches", "a7 a9", maru.LogQuery{Tail: 2, Pattern: "a"}},
		{"tail since", "a9 b9", maru.LogQuery{Tail: 5, Since: at(9)}},
		{"tail until", "b4 a5", maru.LogQuery{Tail: 2, Until: at(5)}},
		{"no tail", "", maru.LogQuery{Tail: -1}},
		{"after", "b2 b4 a5 d6 a7 d8 a9 b9", maru.LogQuery{After: map[string]string{"web-1-a": "1.2.0"}}},
		{"after what is gone", "b2 b4 d6 a7 d8 a9 b9", maru.LogQuery{After: map[string]string{"web-1-a": "1.3.77"}}},
		{"after the end", "b2 b4 d6 d8 b9", maru.LogQuery{After: map[string]string{"web-1-a": "9.1.0"}}},
	} {
		for _, form := range []string{"plain", "compressed"} {
			t.Run(tt.name+" "+form, func(t *testing.T) {
				if got := strings.Join(read(t, l, tt.q), " "); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
			})
			all, err := l.scan(t.Context(), &filter{})
			check(t, err)
			for _, k := range all {
				if !k.Compressed {
					check(t, compressSegment(k))
				}
			}
		}
	}
	for _, q := range []maru.LogQuery{{Pattern: "("}, {After: map[string]string{"web-1-a": "x"}}} {
		for _, err := range l.Logs(t.Context(), q) {
			if maru.KindOf(err) != maru.Invalid {
				t.Errorf("%+v gives %v", q, err)
			}
		}
	}
}

// Every cursor goes on with exactly what comes after it.
func TestCursors(t *testing.T) {
	l := newLogs(t, Config{})
	var want []string
	for n := range 4 {
		var records []string
		for i := range 50 {
			records = append(records, fmt.Sprintf("%d line %d", n*100+i, n*100+i))
			want = append(want, fmt.Sprintf("line %d", n*100+i))
		}
		fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1 + n/2, Number: 1 + n%2}, records...)
	}
	all, err := l.scan(t.Context(), &filter{})
	check(t, err)
	check(t, compressSegment(all[1]))
	seen := 0
	for e, err := range l.Logs(t.Context(), maru.LogQuery{}) {
		check(t, err)
		seen++
		rest := read(t, l, maru.LogQuery{After: map[string]string{e.Instance: e.Cursor}, Tail: 3, Since: at(100000)})
		if !slices.Equal(rest, want[seen:]) {
			t.Fatalf("after %s come %d lines, not %d", e.Cursor, len(rest), len(want)-seen)
		}
		if tail := read(t, l, maru.LogQuery{Tail: seen}); !slices.Equal(tail, want[len(want)-seen:]) {
			t.Fatalf("tail %d gives %d lines", seen, len(tail))
		}
	}
	if seen != len(want) {
		t.Errorf("%d lines", seen)
	}
}

// What a crash or a power cut left in a segment is skipped, and nothing else.
func TestTorn(t *testing.T) {
	l := newLogs(t, Config{})
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1, Number: 1}, "1 one", "2 two")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1, Number: 2}, "3 three")
	path := filepath.Join(l.Dir(shop.Service("web").Workload("1"), "web-1-a"), "000001-000001.log")
	for _, torn := range []string{"2026-01-02T03:00", strings.Repeat("\x00", 100_000), "\n\nnonsense\n"} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		check(t, err)
		_, err = f.WriteString(torn)
		check(t, err)
		check(t, f.Close())
		for _, q := range []maru.LogQuery{{}, {Tail: 5}, {Since: at(1)}} {
			if got := strings.Join(read(t, l, q), " "); got != "one two three" {
				t.Errorf("%+v gives %s", q, got)
			}
		}
		if got := strings.Join(read(t, l, maru.LogQuery{Since: at(2)}), " "); got != "two three" {
			t.Errorf("got %s", got)
		}
	}
}

func TestLastLines(t *testing.T) {
	l := newLogs(t, Config{})
	w := shop.Service("web").Workload("1")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 1, Number: 1}, "1 a", "2 b")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 2, Number: 1}, "3 c", "4 d", "5 e")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 2, Number: 2}, "6 f")
	fixture(t, l, "web", "web-1-a", segment.Name{Attempt: 4, Number: 1}, "7 g")
	for _, tt := range []struct {
		attempt, n int
		want       string
	}{{2, 3, "d e f"}, {2, 10, "c d e f"}, {1, 1, "b"}, {3, 5, ""}, {4, 5, "g"}, {5, 5, ""}} {
		got, err := l.LastLines(w, "web-1-a", tt.attempt, tt.n)
		check(t, err)
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%d of attempt %d: %v", tt.n, tt.attempt, got)
		}
	}
	if got, err := l.LastLines(w, "missing", 1, 5); err != nil || len(got) > 0 {
		t.Errorf("%v %v", got, err)
	}
}

// follower reads until it has seen what it wants.
func follow(ctx context.Context, l *Logs, q maru.LogQuery, take func(maru.LogEntry) bool) error {
	q.Follow = true
	for e, err := range l.Logs(ctx, q) {
		if err != nil {
			return err
		}
		if !take(e) {
			return nil
		}
	}
	return ctx.Err()
}

func write(t testing.TB, l *Logs, service, instance string, attempt int, text string) {
	t.Helper()
	w, err := segment.NewWriter(l.Dir(shop.Service(service).Workload("1"), instance), attempt, segment.Options{})
	check(t, err)
	check(t, w.Copy(segment.Stdout, strings.NewReader(text)))
	check(t, w.Close())
}

func TestFollow(t *testing.T) {
	for _, polling := range []bool{false, true} {
		t.Run(fmt.Sprintf("polling=%v", polling), func(t *testing.T) {
			l := newLogs(t, Config{})
			l.hub.polling = polling
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			write(t, l, "web", "web-1-a", 1, "1\n2\n")
			steps := []func(){
				2: func() { write(t, l, "web", "web-1-a", 1, "3\n") },           // another segment
				3: func() { write(t, l, "web", "web-1-a", 2, "4\n") },           // another attempt
				4: func() { write(t, l, "web", "web-1-b", 1, "5\n6\n") },        // another instance
				6: func() { write(t, l, "db", "db-1-a", 1, "7\n") },             // another service
				7: func() { write(t, l, "web", "web-1-a", 2, "not this\n8\n") }, // a line that does not match
				8: func() { // all is removed, and another comes
					check(t, os.RemoveAll(filepath.Join(l.root, "default")))
					write(t, l, "web", "web-1-c", 1, "9\n")
				},
			}
			var got []string
			err := follow(ctx, l, maru.LogQuery{Pattern: `^\d$`}, func(e maru.LogEntry) bool {
				got = append(got, e.Line)
				if len(got) < len(steps) && steps[len(got)] != nil {
					steps[len(got)]()
				}
				return len(got) < 9
			})
			check(t, err)
			if strings.Join(got, "") != "123456789" {
				t.Errorf("got %v", got)
			}
			l.hub.mu.Lock()
			defer l.hub.mu.Unlock()
			if l.hub.users != 0 || l.hub.file != nil {
				t.Error("the watch goes on")
			}
		})
	}
}

func TestFollowEnds(t *testing.T) {
	l := newLogs(t, Config{})
	write(t, l, "web", "web-1-a", 1, "1\n")
	ctx, cancel := context.WithCancel(t.Context())
	err := follow(ctx, l, maru.LogQuery{}, func(maru.LogEntry) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	check(t, errOf(follow(t.Context(), l, maru.LogQuery{Until: time.Now().Add(-time.Hour)}, func(maru.LogEntry) bool { return true })))
	start := time.Now()
	check(t, errOf(follow(t.Context(), l, maru.LogQuery{Until: time.Now().Add(50 * time.Millisecond)}, func(maru.LogEntry) bool { return true })))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("ended after %v", took)
	}
}

func errOf(err error) error { return err }

// slowdown is how much less there is to do for the race detector.
var slowdown = 1

// Four instances write as fast as they can, while segments rotate and are compressed, readers come
// and go, and one is slow: each line is seen once, in order.
func TestExactlyOnce(t *testing.T) {
	lines := 250_000 / slowdown
	if testing.Short() {
		lines = 25_000
	}
	const instances = 4
	l := newLogs(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	background, stop := context.WithCancel(ctx)
	var writers, others sync.WaitGroup
	defer others.Wait()
	defer stop()

	for i := range instances {
		writers.Go(func() {
			w, err := segment.NewWriter(l.Dir(shop.Service("web").Workload("1"), fmt.Sprintf("web-1-%d", i)), 1, segment.Options{SegmentSize: 1 << 20, Limit: -1})
			check(t, err)
			pr, pw, err := os.Pipe()
			check(t, err)
			go func() {
				b := bufio.NewWriterSize(pw, 1<<10)
				for n := range lines {
					fmt.Fprintf(b, "%d some text that makes the line as long as lines are\n", n)
				}
				b.Flush()
				pw.Close()
			}()
			check(t, w.Copy(segment.Stdout, pr))
			check(t, w.Close())
		})
	}
	others.Go(func() {
		for background.Err() == nil {
			check(t, ignoreCancel(l.compress(background)))
		}
	})
	others.Go(func() { // slow: it takes a line and waits
		for range l.Logs(background, maru.LogQuery{Follow: true}) {
			time.Sleep(10 * time.Millisecond)
		}
	})

	var peak uint64
	read := func(patience int) {
		next := map[string]int{}
		after := map[string]string{}
		for total := 0; total < instances*lines; {
			left := patience // lines until this reader goes and another comes
			check(t, follow(ctx, l, maru.LogQuery{After: after}, func(e maru.LogEntry) bool {
				var n int
				_, err := fmt.Sscanf(e.Line, "%d", &n)
				if err != nil || n != next[e.Instance] {
					t.Errorf("%s: got %q, want line %d", e.Instance, e.Line, next[e.Instance])
					return false
				}
				next[e.Instance]++
				after[e.Instance] = e.Cursor
				total++
				left--
				return left != 0 && total < instances*lines
			}))
			if t.Failed() {
				return
			}
		}
	}
	var readers sync.WaitGroup
	for _, patience := range []int{0, 10_007, 50_021} {
		readers.Go(func() { read(patience) })
	}
	done := make(chan struct{})
	go func() { readers.Wait(); close(done) }()
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ticker.C:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			continue
		case <-done:
			ticker.Stop()
		}
		break
	}
	writers.Wait()
	if peak > 64<<20 {
		t.Errorf("%d MB of memory were used", peak>>20)
	}
	t.Logf("peak heap %d MB", peak>>20)
	stop()
	others.Wait()
	check(t, l.compress(ctx))
	read(0) // all over again, from compressed segments
}

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
