package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// logs are files of a line of JSON for each [maru.RunLogLine].
type logs struct {
	folder string
	max    int64

	mu   sync.Mutex
	news map[string]chan struct{} // closed at the next line or change, by the log's name
}

func newLogs(folder string, longest int64) *logs {
	return &logs{folder: folder, max: longest, news: map[string]chan struct{}{}}
}

func (l *logs) name(scope maru.Scope, number int) string {
	return filepath.Join(l.folder, scope.Project, scope.Environment, scope.App, fmt.Sprintf("%09d.log", number))
}

// next gives a channel that is closed when there is something new.
func (l *logs) next(scope maru.Scope, number int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.name(scope, number)
	if l.news[name] == nil {
		l.news[name] = make(chan struct{})
	}
	return l.news[name]
}

func (l *logs) changed(scope maru.Scope, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := l.name(scope, number)
	if c := l.news[name]; c != nil {
		close(c)
		delete(l.news, name)
	}
}

func (l *logs) remove(scope maru.Scope, number int) error {
	err := os.Remove(l.name(scope, number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// logWriter adds to a log. It is safe for concurrent use.
type logWriter struct {
	logs   *logs
	scope  maru.Scope
	number int

	mu   sync.Mutex
	file *os.File
	size int64
	err  error
}

// open begins to add to a log. A line that a process was writing when it was killed is ended.
func (l *logs) open(scope maru.Scope, number int) *logWriter {
	w := &logWriter{logs: l, scope: scope, number: number}
	name := l.name(scope, number)
	if w.err = os.MkdirAll(filepath.Dir(name), 0o700); w.err != nil {
		return w
	}
	if w.file, w.err = os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); w.err != nil {
		return w
	}
	if info, err := w.file.Stat(); err == nil && info.Size() > 0 {
		w.size = info.Size()
		last := make([]byte, 1)
		if _, err := w.file.ReadAt(last, w.size-1); err == nil && last[0] != '\n' {
			_, w.err = w.file.WriteString("\n")
		}
	}
	return w
}

// maxText is the longest text of a line, bytes.
const maxText = 16 << 10

// add writes a line, if there is room and the disk takes it: a run does not fail for its log.
func (w *logWriter) add(line maru.RunLogLine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.size > w.logs.max {
		return
	}
	line.Text = strings.ToValidUTF8(line.Text[:min(len(line.Text), maxText)], "\uFFFD")
	if line.Time.IsZero() {
		line.Time = time.Now().UTC()
	}
	data := append(maru.Raw(line), '\n')
	if w.size += int64(len(data)); w.size > w.logs.max {
		data = append(maru.Raw(maru.RunLogLine{Time: line.Time, Text: "the log is too long: the rest is left out"}), '\n')
	}
	_, w.err = w.file.Write(data)
	w.logs.changed(w.scope, w.number)
}

func (w *logWriter) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return w.err
	}
	return errors.Join(w.err, w.file.Close())
}

// logReader reads a log while it grows.
type logReader struct {
	file *os.File
	r    *bufio.Reader
	half []byte // of a line that is not ended yet
}

// read gives the lines that are there and were not given yet. A log without a file has none.
func (r *logReader) read(name string, yield func(maru.RunLogLine) bool) (more bool, err error) {
	if r.file == nil {
		if r.file, err = os.Open(name); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		} else if err != nil {
			return false, maru.Errorf(maru.Internal, "read the log of a run: %w", err)
		}
		r.r = bufio.NewReader(r.file)
	}
	for {
		data, err := r.r.ReadBytes('\n')
		r.half = append(r.half, data...)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, maru.Errorf(maru.Internal, "read the log of a run: %w", err)
		}
		line, ok := decodeLine(r.half)
		r.half = r.half[:0]
		if ok && !yield(line) {
			return false, nil
		}
	}
}

// decodeLine reads a line; one that was cut is none.
func decodeLine(data []byte) (maru.RunLogLine, bool) {
	var line maru.RunLogLine
	err := json.Unmarshal(bytes.TrimSpace(data), &line)
	return line, err == nil && !line.Time.IsZero()
}

func (r *logReader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}
