package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/record"
)

// TestRecordIsOneLine: whatever clients send, a record is one JSON object on one line, and one line of
// seven fields in the common format.
func TestRecordIsOneLine(t *testing.T) {
	common := regexp.MustCompile(`^::1 - - \[[^]]+\] "[^"]*" -?\d+ -?\d+ "-" "[^"]*"$`)
	rapid.Check(t, func(t *rapid.T) {
		anything := rapid.String()
		e := record.Record{
			Time: time.Now(), Door: anything.Draw(t, "door"), Method: anything.Draw(t, "method"), Host: anything.Draw(t, "host"),
			Path: string(rapid.SliceOf(rapid.Byte()).Draw(t, "path")), Agent: anything.Draw(t, "agent"), Error: anything.Draw(t, "error"),
			Status: rapid.Int().Draw(t, "status"), Duration: time.Duration(rapid.Int64().Draw(t, "duration")),
			Client: netip.MustParseAddr("::1"), Service: maru.ServiceID{Service: anything.Draw(t, "service")},
		}
		line := AppendJSON(nil, &e)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil || bytes.ContainsRune(line, '\n') {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Host != "" && got["host"] != e.Host {
			t.Fatalf("%q is not %q", got["host"], e.Host)
		}
		if line := AppendCommon(nil, &e); !common.Match(line) {
			t.Fatalf("%s", line)
		}
	})
}

func TestCommonFormat(t *testing.T) {
	e := record.Record{
		Time: time.Date(2000, 10, 10, 13, 55, 36, 0, time.UTC), Client: netip.MustParseAddr("192.0.2.1"), Method: "GET", Path: "/a b\"c",
		Protocol: "HTTP/1.1", Status: 200, Out: 2326, Agent: "curl/8",
	}
	const want = `192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a b\x22c HTTP/1.1" 200 2326 "-" "curl/8"`
	if got := string(AppendCommon(nil, &e)); got != want {
		t.Errorf("%s\nis not\n%s", got, want)
	}
}

type slow struct {
	bytes.Buffer
	gate chan struct{}
	err  error
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.gate
	if s.err != nil {
		return 0, s.err
	}
	return s.Buffer.Write(p)
}

// TestLinesThatDoNotFit puts more records than the ring holds while the output hangs.
func TestLinesThatDoNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told strings.Builder
		out := &slow{gate: make(chan struct{})}
		ring := record.NewRing(64)
		l := New(out, nil, ring, slog.New(slog.NewTextHandler(&told, nil)))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		const sent = 1000
		for i := range sent {
			ring.Put(&record.Record{Door: "gateway"})
			if i == 10 {
				time.Sleep(2 * batchAge) // until it hangs in the output
			}
		}
		close(out.gate)
		synctest.Wait()
		ring.Put(&record.Record{Door: "last"})
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(out.String(), "\n")
		if l.Dropped() == 0 || uint64(lines) != sent+1-l.Dropped() || !strings.Contains(out.String(), "last") {
			t.Fatalf("%d lines, %d dropped", lines, l.Dropped())
		}
		if !strings.Contains(told.String(), fmt.Sprint("count=", l.Dropped())) {
			t.Error(told.String())
		}
	})
}

func TestFailingOutputIsToldOnce(t *testing.T) {
	var told strings.Builder
	out := &slow{gate: make(chan struct{}), err: errors.New("disk full")}
	close(out.gate)
	ring := record.NewRing(0)
	l := New(out, nil, ring, slog.New(slog.NewTextHandler(&told, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for range 10 {
		ring.Put(&record.Record{})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(told.String(), "disk full"); n > 1 {
		t.Fatalf("told %d times", n)
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "access.log")
	f, err := OpenFile(path, FileConfig{Bytes: 100, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 10 {
		line := strings.Repeat(string(rune('0'+i)), 39) + "\n"
		if _, err := f.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
			got[e.Name()] += line[:1]
		}
	}
	if len(got) != 3 || got["access.log"] != "89" || got["access.log.1"] != "67" || got["access.log.2"] != "45" {
		t.Fatal(got)
	}
	again, err := OpenFile(path, FileConfig{Bytes: 100, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.size != 80 {
		t.Fatal(again.size)
	}
}
