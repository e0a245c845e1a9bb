package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"

	"github.com/marucloud/maru/engine/local/logs/segment"
	"github.com/marucloud/maru/engine/local/loguri"
)

// drainTimeout is how long deleting a task waits for its log to be written to the end.
const drainTimeout = 10 * time.Second

// service is the runc shim's task service. A task that is created with a log address as its stdout
// gets pipes instead, which end in the log.
type service struct {
	taskapi.TTRPCTaskService

	mu   sync.Mutex
	logs map[string]*taskLog // by task
}

// taskLog is the log of one task while it is open.
type taskLog struct {
	uri  string
	ends []*os.File // write ends that the task's copier opens by path; closed once it has
	done chan struct{}
	err  error // of writing; set before done is closed
}

// Create makes the task, and its log if it has one.
func (s *service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	if !loguri.Is(r.Stdout) {
		return s.TTRPCTaskService.Create(ctx, r)
	}
	opened, err := openLog(r.Stdout, r.Terminal)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", r.ID, err)
	}
	r.Stdout, r.Stderr = fdPath(opened.ends[0]), ""
	if !r.Terminal {
		r.Stderr = fdPath(opened.ends[1])
	}
	response, err := s.TTRPCTaskService.Create(ctx, r)
	// By now the copier holds the pipes: with our ends closed they end when the task's output does.
	for _, end := range opened.ends {
		_ = end.Close()
	}
	if err != nil {
		<-opened.done
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs == nil {
		s.logs = make(map[string]*taskLog)
	}
	s.logs[r.ID] = opened
	return response, nil
}

// State answers with the log's address instead of the pipes', which nobody else can open.
func (s *service) State(ctx context.Context, r *taskapi.StateRequest) (*taskapi.StateResponse, error) {
	response, err := s.TTRPCTaskService.State(ctx, r)
	if err != nil || r.ExecID != "" {
		return response, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if opened := s.logs[r.ID]; opened != nil {
		response.Stdout, response.Stderr = opened.uri, ""
	}
	return response, nil
}

// Delete deletes the task, and returns when its log is whole.
func (s *service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	response, err := s.TTRPCTaskService.Delete(ctx, r)
	if err != nil || r.ExecID != "" {
		return response, err
	}
	s.mu.Lock()
	opened := s.logs[r.ID]
	delete(s.logs, r.ID)
	s.mu.Unlock()
	if opened == nil {
		return response, nil
	}
	timeout := time.NewTimer(drainTimeout) // a process that left the container may hold its stdout for ever
	defer timeout.Stop()
	select {
	case <-opened.done:
		if opened.err != nil {
			log.G(ctx).WithError(opened.err).Error("write log")
		}
	case <-timeout.C:
		log.G(ctx).Error("output of the task goes on after its end")
	}
	return response, nil
}

// openLog opens the log at the address and starts to fill it from pipes, one per stream.
func openLog(uri string, terminal bool) (*taskLog, error) {
	dir, attempt, err := loguri.Parse(uri)
	if err != nil {
		return nil, err
	}
	writer, err := segment.NewWriter(dir, attempt, segment.Options{})
	if err != nil {
		return nil, err
	}
	streams := []segment.Stream{segment.Stdout, segment.Stderr}
	if terminal {
		streams = streams[:1]
	}
	opened := &taskLog{uri: uri, done: make(chan struct{})}
	sources := make([]*os.File, len(streams))
	for i := range streams {
		r, w, err := os.Pipe()
		if err != nil {
			for _, f := range slices.Concat(sources[:i], opened.ends) {
				_ = f.Close()
			}
			return nil, errors.Join(err, writer.Close())
		}
		sources[i], opened.ends = r, append(opened.ends, w)
	}
	failed := make([]error, len(streams))
	var copying sync.WaitGroup
	for i, source := range sources {
		copying.Go(func() {
			failed[i] = writer.Copy(streams[i], source)
			_ = source.Close()
		})
	}
	go func() {
		copying.Wait()
		opened.err = errors.Join(errors.Join(failed...), writer.Close())
		close(opened.done)
	}()
	return opened, nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
