package local

import (
	"context"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
)

// drainPause is how long output may stay away before it is taken to be complete: a process that was
// left behind can hold the streams open for ever.
const drainPause = time.Second

// execStreams are what a further process reads and writes.
type execStreams struct {
	stdin          io.Reader // nil: none
	stdout, stderr io.Writer
	stdinEnd       chan struct{}
	written        atomic.Int64
}

func newExecStreams(stdin io.Reader, stdout, stderr io.Writer) *execStreams {
	s := &execStreams{stdinEnd: make(chan struct{})}
	if stdin != nil {
		s.stdin = &endReader{r: stdin, end: sync.OnceFunc(func() { close(s.stdinEnd) })}
	}
	s.stdout, s.stderr = &countWriter{stdout, &s.written}, &countWriter{stderr, &s.written}
	return s
}

func (s *execStreams) creator(run string, terminal bool) cio.Creator {
	options := []cio.Opt{cio.WithStreams(s.stdin, s.stdout, s.stderr), cio.WithFIFODir(filepath.Join(run, "fifo"))}
	if terminal {
		options = append(options, cio.WithTerminal)
	}
	return cio.NewCreator(options...)
}

// closeStdin tells the process that its input has ended when it has, for the shim holds it open.
func (s *execStreams) closeStdin(ctx context.Context, process containerd.Process) {
	if s.stdin == nil {
		return
	}
	select {
	case <-s.stdinEnd:
		_ = process.CloseIO(ctx, containerd.WithStdinCloser) // it may have ended by itself
	case <-ctx.Done():
	}
}

// drain returns when the output of a process that ended is complete.
func (s *execStreams) drain(ctx context.Context, process containerd.Process) {
	complete := make(chan struct{})
	go func() {
		process.IO().Wait()
		close(complete)
	}()
	pause := time.NewTicker(drainPause)
	defer pause.Stop()
	for before := s.written.Load(); ; before = s.written.Load() {
		select {
		case <-complete:
			return
		case <-ctx.Done():
			return
		case <-pause.C:
			if s.written.Load() == before {
				return
			}
		}
	}
}

// endReader tells when its end was read.
type endReader struct {
	r   io.Reader
	end func()
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}

// countWriter counts what goes through it. Without a writer it goes nowhere.
type countWriter struct {
	w       io.Writer
	written *atomic.Int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	if c.w == nil {
		return len(p), nil
	}
	return c.w.Write(p)
}
