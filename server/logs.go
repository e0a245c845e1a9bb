package server

import (
	"context"
	"regexp"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// logService gives what instances wrote.
type logService struct{ *Server }

// Entries travel in batches: as many as are there, up to a size.
const (
	batchEntries = 1000
	batchBytes   = 64 << 10
)

func (s logService) Logs(ctx context.Context, req *maruv1.LogsRequest, stream *connect.ServerStream[maruv1.LogsResponse]) error {
	query := maru.LogQuery{
		Scope: fromScope(req.Scope), Services: req.Services, Release: req.Release, Instance: req.Instance,
		Since: fromTime(req.Since), Until: fromTime(req.Until), Pattern: req.Pattern, Tail: int(req.Tail),
		Follow: req.Follow, After: req.After,
	}
	if _, err := regexp.Compile(query.Pattern); err != nil {
		return maru.WithHint(maru.Errorf(maru.Invalid, "pattern %q: %w", query.Pattern, err), "write a regular expression as in https://golang.org/s/re2syntax")
	}
	ctx, cancel := context.WithCancel(ctx)
	entries, finish := s.read(ctx, query)
	for batch := range batches(entries) {
		if err := stream.Send(&maruv1.LogsResponse{Entries: batch}); err != nil {
			cancel()
			_ = finish()
			return err
		}
	}
	cancel()
	return finish()
}

// read puts the entries into a channel that it closes. Finish, called when the channel is closed or
// the context has ended, gives the error.
func (s logService) read(ctx context.Context, query maru.LogQuery) (<-chan maru.LogEntry, func() error) {
	entries := make(chan maru.LogEntry, batchEntries)
	failed := make(chan error, 1)
	go func() {
		defer close(entries)
		for entry, err := range s.deps.Logs.Logs(ctx, query) {
			if err != nil {
				failed <- err
				return
			}
			select {
			case entries <- entry:
			case <-ctx.Done():
				failed <- nil
				return
			}
		}
		failed <- nil
	}()
	return entries, func() error { return <-failed }
}

// batches gives what is there at once, waiting only for the first of each batch.
func batches(entries <-chan maru.LogEntry) func(func([]*maruv1.LogEntry) bool) {
	return func(yield func([]*maruv1.LogEntry) bool) {
		for first := range entries {
			batch := []*maruv1.LogEntry{entryProto(first)}
			size := len(first.Line)
			open := true
			for open && len(batch) < batchEntries && size < batchBytes {
				select {
				case entry, ok := <-entries:
					if !ok {
						open = false
						continue
					}
					batch = append(batch, entryProto(entry))
					size += len(entry.Line)
					continue
				default:
				}
				break
			}
			if !yield(batch) {
				return
			}
		}
	}
}

func entryProto(e maru.LogEntry) *maruv1.LogEntry {
	return &maruv1.LogEntry{
		Time: timeProto(e.Time), Workload: e.Workload.String(), Instance: e.Instance, Attempt: int32(e.Attempt),
		Stream: e.Stream, Line: []byte(e.Line), Partial: e.Partial, Cursor: e.Cursor,
	}
}
