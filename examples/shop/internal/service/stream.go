package service

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Stream answers with server-sent events until the caller goes away, the service stops, or events is
// closed. A comment every so often keeps proxies from thinking that nobody is there.
func (s *Service) Stream(w http.ResponseWriter, r *http.Request, events <-chan Event) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	fmt.Fprint(w, ": here\n\n")
	for {
		if flusher.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			if e.ID != "" {
				fmt.Fprintf(w, "id: %s\n", e.ID)
			}
			fmt.Fprintf(w, "event: %s\n", e.Name)
			for line := range strings.Lines(e.Data) {
				fmt.Fprintf(w, "data: %s\n", strings.TrimRight(line, "\n"))
			}
			fmt.Fprint(w, "\n")
		case <-tick.C:
			fmt.Fprint(w, ": still here\n\n")
		}
	}
}

// Event is one server-sent event.
type Event struct {
	Name, Data, ID string
}

// Listen reads another service's stream and gives each event to take, until the stream or ctx ends.
func Listen(ctx context.Context, url string, take func(Event)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &StatusError{resp.StatusCode, "no stream"}
	}
	var e Event
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case lines.Text() == "":
			if e.Name != "" {
				take(e)
			}
			e = Event{}
		case field == "event":
			e.Name = value
		case field == "id":
			e.ID = value
		case field == "data" && e.Data != "":
			e.Data += "\n" + value
		case field == "data":
			e.Data = value
		}
	}
	return lines.Err()
}

// Forever does a task again and again until ctx ends, with longer and longer pauses while it fails.
func Forever(ctx context.Context, s *Service, what string, task func(context.Context) error) error {
	pause := 100 * time.Millisecond
	for {
		start := time.Now()
		err := task(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil || time.Since(start) > time.Minute {
			pause = 100 * time.Millisecond
		}
		if err != nil {
			s.Log.Warn("will try again", "task", what, "in", pause.String(), "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
	}
}
