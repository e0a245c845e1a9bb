// Store keeps the shop's data: keys with JSON values, each with a revision, on a volume. What it has
// acknowledged is on the disk. It also lends entries to workers, one to each, which makes a queue of
// any prefix.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"shop/internal/service"
)

func main() {
	s := service.New("store")
	data, err := openStore(service.Env("DATA_DIR", "/data"))
	if err != nil {
		s.Log.Error("the data can't be read", "error", err)
		os.Exit(1)
	}
	s.Log.Info("data is there", "entries", len(data.entries), "revision", data.revision)
	stop := make(chan struct{})
	written := make(chan error, 1)
	go func() { written <- data.run(stop) }()
	// The journal outlives the requests: it is closed after the last of them is answered.
	code := s.Run(handler(s, data), nil, func(ctx context.Context) error {
		select {
		case err := <-written:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	close(stop)
	select {
	case err = <-written:
	case <-data.stopped:
	}
	if err != nil {
		s.Log.Error("the journal failed", "error", err)
		code = 1
	}
	os.Exit(code)
}

func handler(s *service.Service, data *store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/commit", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Ops []op `json:"ops"`
		}
		if !service.Read(w, r, &asked) {
			return
		}
		revision, err := data.commit(asked.Ops)
		switch {
		case err == nil:
			service.Reply(w, http.StatusOK, map[string]int64{"revision": revision})
		case errors.Is(err, errConflict):
			service.Fail(w, http.StatusConflict, err.Error())
		case errors.Is(err, errInvalid):
			service.Fail(w, http.StatusBadRequest, err.Error())
		default:
			service.Fail(w, http.StatusServiceUnavailable, err.Error())
		}
	})
	mux.HandleFunc("GET /v1/entries/{key...}", func(w http.ResponseWriter, r *http.Request) {
		if e, ok := data.get(r.PathValue("key")); ok {
			service.Reply(w, http.StatusOK, e)
			return
		}
		service.Fail(w, http.StatusNotFound, "there is no "+r.PathValue("key"))
	})
	mux.HandleFunc("GET /v1/entries", func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		entries, revision := data.list(r.FormValue("prefix"), limit, r.FormValue("reverse") != "")
		service.Reply(w, http.StatusOK, map[string]any{"entries": entries, "revision": revision})
	})
	mux.HandleFunc("POST /v1/take", func(w http.ResponseWriter, r *http.Request) { take(s, w, r, data) })
	mux.HandleFunc("GET /v1/watch", func(w http.ResponseWriter, r *http.Request) { watch(s, w, r, data) })
	return mux
}

// longest are the bounds of what a taker may ask for.
const (
	longestLease = 5 * time.Minute
	longestWait  = 30 * time.Second
)

// take waits for something to lend, for as long as the caller likes.
func take(s *service.Service, w http.ResponseWriter, r *http.Request, data *store) {
	lease, err := time.ParseDuration(r.FormValue("lease"))
	if err != nil || lease <= 0 || lease > longestLease {
		service.Fail(w, http.StatusBadRequest, "lease is a duration of at most 5m")
		return
	}
	wait, err := time.ParseDuration(r.FormValue("wait"))
	if err != nil || wait < 0 || wait > longestWait {
		service.Fail(w, http.StatusBadRequest, "wait is a duration of at most 30s")
		return
	}
	deadline := time.After(wait)
	for {
		e, ok, changed := data.take(r.FormValue("prefix"), time.Now(), lease)
		if ok {
			service.Reply(w, http.StatusOK, e)
			return
		}
		select {
		case <-changed:
		case <-time.After(time.Second): // a lease may have run out
		case <-s.Stopping():
			w.WriteHeader(http.StatusNoContent)
			return
		case <-deadline:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func watch(s *service.Service, w http.ResponseWriter, r *http.Request, data *store) {
	changes, stop := data.watch(r.FormValue("prefix"))
	defer stop()
	events := make(chan service.Event)
	go func() {
		defer close(events)
		for {
			select {
			case batch, ok := <-changes:
				if !ok {
					return
				}
				for _, e := range batch {
					line, err := json.Marshal(e)
					if err != nil {
						return
					}
					select {
					case events <- service.Event{Name: "change", Data: string(line), ID: strconv.FormatInt(e.Revision, 10)}:
					case <-r.Context().Done():
						return
					}
				}
			case <-r.Context().Done():
				return
			}
		}
	}()
	s.Stream(w, r, events)
}
