package accesslog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// TestEntryIsJSON: whatever clients send, a line is one JSON object on one line.
func TestEntryIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anything := rapid.String()
		e := Entry{
			Time: time.Now(), Door: anything.Draw(t, "door"), Method: anything.Draw(t, "method"), Host: anything.Draw(t, "host"),
			Path: string(rapid.SliceOf(rapid.Byte()).Draw(t, "path")), Agent: anything.Draw(t, "agent"), Error: anything.Draw(t, "error"),
			Status: rapid.Int().Draw(t, "status"), Duration: time.Duration(rapid.Int64().Draw(t, "duration")),
			Client: netip.MustParseAddr("::1"), Service: maru.ServiceID{Service: anything.Draw(t, "service")},
		}
		line := e.AppendJSON(nil)
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil || bytes.ContainsRune(line, '\n') {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Host != "" && got["host"] != e.Host {
			t.Fatalf("%q is not %q", got["host"], e.Host)
		}
	})
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

// TestNobodyWaits writes more than fits while the output hangs.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slow{gate: make(chan struct{})}
		l := New(out, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		const sent = 3 * mostBytes / 64 // a line is about as long
		for range sent {
			l.Write(&Entry{Door: "gateway"})
		}
		dropped := l.Dropped()
		if dropped == 0 {
			t.Fatal("nothing dropped")
		}
		close(out.gate)
		for l.waiting() > 0 {
			time.Sleep(batchAge)
		}
		l.Write(&Entry{Door: "last"})
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var lines, told uint64
		for s := bufio.NewScanner(&out.Buffer); s.Scan(); {
			var line struct {
				Door    string
				Dropped uint64
			}
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			told += line.Dropped
			if line.Door != "" {
				lines++
			}
		}
		if told != dropped || lines != sent+1-dropped {
			t.Fatalf("%d lines, %d dropped, %d told", lines, dropped, told)
		}
	})
}

func (l *Log) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.batch)
}

func TestFailingOutputIsToldOnce(t *testing.T) {
	var told strings.Builder
	out := &slow{gate: make(chan struct{}), err: errors.New("disk full")}
	close(out.gate)
	l := New(out, slog.New(slog.NewTextHandler(&told, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for range 10 {
		l.Write(&Entry{})
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
