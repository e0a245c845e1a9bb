package stream

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// mostReport bounds a report, in bytes: some tens of thousands of draining instances.
const mostReport = 4 << 20

// Server serves a publisher over HTTP.
type Server struct {
	p   *Publisher
	log *slog.Logger

	mu      sync.Mutex
	streams map[string]*follower
}

// NewServer makes a server for the publisher.
func NewServer(p *Publisher, log *slog.Logger) *Server {
	return &Server{p: p, log: log, streams: map[string]*follower{}}
}

// Run serves data planes that connect to l until ctx ends. The listener is its own.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return maru.Errorf(maru.Unavailable, "traffic stream: %w", err)
	}
	return nil
}

// ServeHTTP serves updates and takes reports.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == updatesPath && r.Method == http.MethodGet:
		s.updates(w, r)
	case r.URL.Path == reportsPath && r.Method == http.MethodPost:
		s.report(w, r)
	case r.URL.Path == evidencePath && r.Method == http.MethodPost:
		s.evidence(w, r)
	default:
		http.NotFound(w, r)
	}
}

// mostEvidence bounds what is told of drawn requests at once, in bytes: some 100,000 of them.
const mostEvidence = 16 << 20

func (s *Server) evidence(w http.ResponseWriter, r *http.Request) {
	all, err := readEvidence(http.MaxBytesReader(w, r.Body, mostEvidence))
	if err != nil {
		http.Error(w, "not evidence", http.StatusBadRequest)
		return
	}
	if s.p.cfg.Evidence != nil {
		for _, e := range all {
			s.p.cfg.Evidence(e)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func readEvidence(r io.Reader) ([]maru.Evidence, error) {
	var all []maru.Evidence
	err := json.NewDecoder(r).Decode(&all)
	return all, err
}

func (s *Server) updates(w http.ResponseWriter, r *http.Request) {
	f := s.p.join(true)
	defer s.p.leave(f)
	id := rand.Text()
	s.mu.Lock()
	s.streams[id] = f
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, id)
	}()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set(streamHeader, id)
	rc := http.NewResponseController(w)
	buffered := bufio.NewWriterSize(w, 32<<10)
	if rc.Flush() != nil {
		return
	}
	for {
		u, err := s.p.next(r.Context(), f)
		if err != nil {
			return
		}
		if err := errors.Join(writeFrames(buffered, u), buffered.Flush(), rc.Flush()); err != nil {
			s.log.Debug("traffic stream ended", "error", err)
			return
		}
	}
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	var report maru.TrafficReport
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostReport)).Decode(&report); err != nil {
		http.Error(w, "not a report", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	f := s.streams[r.Header.Get(streamHeader)]
	s.mu.Unlock()
	if f == nil {
		http.Error(w, "no such stream", http.StatusGone)
		return
	}
	s.p.acked(f, report)
	if s.p.cfg.Report != nil {
		s.p.cfg.Report(report)
	}
	w.WriteHeader(http.StatusNoContent)
}
