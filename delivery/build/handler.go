package build

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/marucloud/maru"
)

// Handler serves a builder to [Client]s. A client that goes away cancels its build.
func Handler(b Builder, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+buildPath, func(w http.ResponseWriter, r *http.Request) {
		var req Request
		out := newStream(w, log)
		if !out.read(r, &req) {
			return
		}
		err := req.Check()
		if err == nil {
			var image maru.Image
			image, err = b.Build(r.Context(), req, func(e Event) { out.send(message{Event: &e}) })
			if err == nil {
				out.send(message{Image: &image})
				return
			}
		}
		out.fail("build "+req.Name, err)
	})
	mux.HandleFunc("POST "+prunePath, func(w http.ResponseWriter, r *http.Request) {
		var req pruneRequest
		out := newStream(w, log)
		if !out.read(r, &req) {
			return
		}
		freed, err := b.Prune(r.Context(), req.Keep)
		if err != nil {
			out.fail("prune", err)
			return
		}
		out.send(message{Freed: &freed})
	})
	return mux
}

// stream writes messages, each flushed at once.
type stream struct {
	log   *slog.Logger
	w     http.ResponseWriter
	mu    sync.Mutex
	enc   *json.Encoder
	flush func() error
}

func newStream(w http.ResponseWriter, log *slog.Logger) *stream {
	return &stream{log: log, w: w, enc: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
}

func (s *stream) read(r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(s.w, r.Body, maxRequest)).Decode(into); err != nil {
		http.Error(s.w, "request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	s.w.Header().Set("Content-Type", "application/x-ndjson")
	return true
}

// send drops what a client that went away can't get: its context ends the build.
func (s *stream) send(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc.Encode(m) == nil {
		_ = s.flush()
	}
}

func (s *stream) fail(what string, err error) {
	if maru.KindOf(err) == maru.Internal {
		s.log.Error("unexpected failure", "operation", what, "error", err)
	}
	s.send(message{Error: toWire(err)})
}
