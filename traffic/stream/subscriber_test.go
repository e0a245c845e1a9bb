package stream

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/memfile"
)

// plane is a data plane that only keeps state.
type plane struct {
	mirror
	news chan struct{}
}

func newPlane() *plane { return &plane{news: make(chan struct{}, 1)} }

func (p *plane) Traffic() iter.Seq[maru.ServiceTraffic] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return valuesOf(p.have)
}
func (p *plane) Resolvers() []netip.AddrPort { return nil }
func (p *plane) Report() maru.TrafficReport  { return maru.TrafficReport{} }
func (p *plane) News() <-chan struct{}       { return p.news }

func begin(t *testing.T, folder string) (s *Subscriber, p *plane, stop func()) {
	t.Helper()
	p = newPlane()
	s = NewSubscriber(SubscriberConfig{Folder: folder}, p, slog.New(slog.DiscardHandler))
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	return s, p, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (s *Subscriber) tell(t *testing.T, u maru.TrafficUpdate) {
	t.Helper()
	if err := s.plane.Update(u); err != nil {
		t.Fatal(err)
	}
	s.keeper.keep(u)
}

// TestHandover runs two subscribers on one folder, as while a proxy is replaced: the first keeps the
// state until it hands over, then the second does.
func TestHandover(t *testing.T) {
	folder := t.TempDir()
	old, _, stopOld := begin(t, folder)
	old.tell(t, maru.TrafficUpdate{Full: true, Services: []maru.ServiceTraffic{state("a", "")}})
	journal := filepath.Join(folder, journalName)
	kept := func(what string) bool {
		data, err := os.ReadFile(journal)
		return err == nil && strings.Contains(string(data), what)
	}
	await(t, func() bool { return kept("e/shop/a") })
	fresh, p, stopFresh := begin(t, folder)
	if len(p.have) != 1 {
		t.Fatal("the second does not know what the first knew")
	}
	fresh.tell(t, maru.TrafficUpdate{Services: []maru.ServiceTraffic{state("b", "")}})
	old.tell(t, maru.TrafficUpdate{Services: []maru.ServiceTraffic{state("c", "")}})
	await(t, func() bool { return kept("e/shop/c") })
	if kept("e/shop/b") {
		t.Fatal("both write")
	}
	old.Handover()
	await(t, func() bool { return kept("e/shop/b") })
	stopOld()
	stopFresh()
	_, p, stop := begin(t, folder)
	defer stop()
	if _, ok := p.have[shop.Service("b")]; !ok {
		t.Fatal("what the last one knew is lost")
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so after 10 s")
		}
	}
}

// TestReportsAreChecked: what is no report of a stream that is open is not taken.
func TestReportsAreChecked(t *testing.T) {
	s := NewServer(NewPublisher(PublisherConfig{Report: func(maru.TrafficReport) { t.Error("taken") }}), slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", reportsPath, "{}", http.StatusGone},
		{"POST", reportsPath, "{", http.StatusBadRequest},
		{"GET", reportsPath, "", http.StatusNotFound},
		{"POST", updatesPath, "", http.StatusNotFound},
		{"GET", "/", "", http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		if w.Code != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, w.Code)
		}
	}
}

func TestKeptCertificatesAreSealed(t *testing.T) {
	f, err := memfile.Seal("test", []byte(`[{"chain":"YQ==","key":"Yg=="}]`))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("cut")
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	s := &Subscriber{cfg: SubscriberConfig{Kept: func(string) (*os.File, error) { return f, nil }}}
	c, err := s.keptCertificates()
	if err != nil || len(c) != 1 || string(c[0].Key) != "b" {
		t.Fatal(c, err)
	}
}

func FuzzReport(f *testing.F) {
	f.Add(`{"version":1,"inFlight":{"a":1},"problems":[{"service":"p/e/a/s","what":"x"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		p := NewPublisher(PublisherConfig{})
		s := NewServer(p, slog.New(slog.DiscardHandler))
		s.streams["id"] = p.join(true)
		r := httptest.NewRequest("POST", reportsPath, strings.NewReader(body))
		r.Header.Set(streamHeader, "id")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent && w.Code != http.StatusBadRequest {
			t.Fatal(w.Code)
		}
	})
}
