// Package service is what every service of the shop does alike: listen where the environment says,
// tell how it is, log what it answers, and stop without dropping anybody.
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Service is a running service of the shop.
type Service struct {
	Name     string
	Instance string // this one among its equals: the container's host name
	Log      *slog.Logger
	Started  time.Time

	stopping chan struct{} // closed when streams are to end
}

// New makes the service known to its log.
func New(name string) *Service {
	host, err := os.Hostname()
	if err != nil {
		host = name
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil)).With("service", name)
	return &Service{Name: name, Instance: host, Log: log, Started: time.Now(), stopping: make(chan struct{})}
}

// grace is how long requests in flight may still take after SIGTERM.
const grace = 15 * time.Second

// Run serves the handler, and each background task beside it, until SIGTERM or SIGINT. The handler
// gets a health check in front; ready says why the service can't work now, or nil.
func (s *Service) Run(handler http.Handler, ready func(context.Context) error, tasks ...func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	mux := http.NewServeMux()
	mux.Handle("/", s.logged(handler))
	mux.HandleFunc("GET /healthz", s.health(ready))
	server := &http.Server{
		Addr:              ":" + Env("PORT", "8080"),
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(func() { close(s.stopping) })
	ended := make(chan error, 1+len(tasks))
	go func() { ended <- server.ListenAndServe() }()
	for _, task := range tasks {
		go func() { ended <- task(ctx) }()
	}
	s.Log.Info("serving", "address", server.Addr, "instance", s.Instance)
	left := 1 + len(tasks)
	var failed error
	select {
	case <-ctx.Done():
		s.Log.Info("stopping")
	case failed = <-ended:
		left--
		s.Log.Error("failed", "error", failed)
		stop()
	}
	if err := s.stop(server, ended, left); err != nil || failed != nil {
		return 1
	}
	s.Log.Info("stopped")
	return 0
}

// stop lets requests in flight finish, and waits for what is left to end.
func (s *Service) stop(server *http.Server, ended <-chan error, left int) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.Log.Warn("requests were cut", "error", err)
		server.Close()
	}
	for range left {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.Canceled) {
				s.Log.Error("failed", "error", err)
				return err
			}
		case <-ctx.Done():
			s.Log.Warn("did not stop in time")
			return ctx.Err()
		}
	}
	return nil
}

// Stopping is closed when answers that wait for something are to end.
func (s *Service) Stopping() <-chan struct{} { return s.stopping }

func (s *Service) health(ready func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if ready != nil {
			if err := ready(r.Context()); err != nil {
				Fail(w, http.StatusServiceUnavailable, err.Error())
				return
			}
		}
		Reply(w, http.StatusOK, map[string]any{"service": s.Name, "instance": s.Instance, "started": s.Started})
	}
}

// logged writes a line for each answer and says on it who answered.
func (s *Service) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w.Header().Set("X-Instance", s.Instance)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		s.Log.Info("request", "method", r.Method, "path", r.URL.Path, "status", rec.status,
			"ms", time.Since(start).Milliseconds(), "trace", traceOf(r))
	})
}

// traceOf gives the trace that the platform put the request into.
func traceOf(r *http.Request) string {
	if parts := strings.Split(r.Header.Get("Traceparent"), "-"); len(parts) == 4 {
		return parts[1]
	}
	return ""
}

type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets streams flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Env reads a setting from the environment.
func Env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// Secret reads a secret's file, which the platform mounts.
func Secret(name string) (string, error) {
	data, err := os.ReadFile(Env("SECRETS_DIR", "/run/secrets") + "/" + name)
	return strings.TrimSpace(string(data)), err
}

// Reply answers with JSON.
func Reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller may be gone
}

// Fail answers with an error that a program and a person can read.
func Fail(w http.ResponseWriter, status int, message string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	Reply(w, status, map[string]string{"error": message})
}

// Read decodes a request's JSON body, at most 1 MiB of it.
func Read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into); err != nil {
		Fail(w, http.StatusBadRequest, "the body is not the JSON that is expected: "+err.Error())
		return false
	}
	return true
}

// StatusError is an answer of another service that is not what was hoped for.
type StatusError struct {
	Status  int
	Message string
}

// Error gives the other service's words.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s (%d %s)", e.Message, e.Status, http.StatusText(e.Status))
}

// StatusOf gives the HTTP status that an error stands for; 503 when nobody answered.
func StatusOf(err error) int {
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status
	}
	return http.StatusServiceUnavailable
}

// Call asks another service. Body and into may be nil. It gives the answer's headers.
func Call(ctx context.Context, method, url string, headers http.Header, body, into any) (http.Header, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = strings.NewReader(string(data))
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return nil, err
	}
	for name, values := range headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var said struct{ Error string }
		_ = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&said)
		if said.Error == "" {
			said.Error = "no reason given"
		}
		return resp.Header, &StatusError{resp.StatusCode, said.Error}
	}
	if into == nil || resp.StatusCode == http.StatusNoContent {
		return resp.Header, nil
	}
	return resp.Header, json.NewDecoder(resp.Body).Decode(into)
}
