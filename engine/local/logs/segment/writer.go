package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// Options tune a Writer. The zero value is the default.
type Options struct {
	SegmentSize int64         // bytes of a segment; default 16 MiB
	SegmentAge  time.Duration // a segment is closed when its first record is this old and another comes; default 24 h
	Limit       int64         // bytes of all segments in the folder, the oldest go first; default 256 MiB; <0: none
	LineSize    int           // a longer line is split into partial records; default 16 KiB
}

func (o Options) withDefaults() Options {
	if o.SegmentSize <= 0 {
		o.SegmentSize = 16 << 20
	}
	if o.SegmentAge <= 0 {
		o.SegmentAge = 24 * time.Hour
	}
	if o.Limit == 0 {
		o.Limit = 256 << 20
	}
	if o.LineSize <= 0 {
		o.LineSize = 16 << 10
	}
	o.LineSize = max(o.LineSize, utf8.UTFMax)
	return o
}

// Writer appends what an instance writes to its log. Methods are safe for concurrent use.
type Writer struct {
	dir     string
	attempt int
	opts    Options
	now     func() time.Time
	write   func(f *os.File, b []byte) (int, error)

	mu      sync.Mutex // of all below
	file    *os.File   // nil until there is something to write
	number  int        // of the last segment made
	size    int64      // of file
	opened  time.Time  // when file was
	last    time.Time  // of the last record in file
	out     []byte     // records for one write
	dropped dropped
}

// NewWriter makes a writer of the given attempt (from 1) of the instance whose log is in dir, and
// makes dir. Files are made when there is something to write.
func NewWriter(dir string, attempt int, opts Options) (*Writer, error) {
	if attempt < 1 {
		return nil, errors.New("log writer: attempts count from 1")
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	segments, err := List(dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, attempt: attempt, opts: opts.withDefaults(), now: time.Now, write: (*os.File).Write}
	for _, s := range segments {
		if s.Attempt == attempt {
			w.number = max(w.number, s.Number)
		}
	}
	return w, nil
}

// Copy reads r to its end and logs its lines as the stream's. It never waits for anything but r and
// the disk. What can't be written, because the disk is full, is dropped and counted: a line that says
// so is in the log as soon as there is room. The error is r's; an end, or an r that was closed, is none.
func (w *Writer) Copy(stream Stream, r io.Reader) error {
	s := splitter{lineSize: w.opts.LineSize, buf: make([]byte, 0, firstBuffer)}
	for {
		n, err := s.read(r)
		if n > 0 || err != nil {
			w.append(stream, &s, err != nil)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed), errors.Is(err, syscall.EIO):
			return nil // EIO is the end of a terminal whose other side is gone
		default:
			return err
		}
	}
}

// Close writes out and unlocks the segment. Every Copy must have returned.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped.lines > 0 {
		w.flush(w.stamp())
	}
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

const (
	firstBuffer = 4 << 10
	fullBuffer  = 64 << 10 // of a pipe
	writeSize   = 64 << 10 // longer batches are several writes, so that memory stays small
)

// append logs the lines that s has complete, or all it has at the end.
func (w *Writer) append(stream Stream, s *splitter, end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stamp := w.stamp()
	for {
		line, partial, ok := s.next(end)
		if !ok {
			break
		}
		w.out = appendHeader(w.out, stamp, stream, partial)
		w.out = append(w.out, line...)
		w.out = append(w.out, '\n')
		if len(w.out) >= writeSize {
			w.flush(stamp)
			stamp = w.stamp()
		}
	}
	w.flush(stamp)
	s.compact()
}

// stamp gives the present time for records. Time never decreases within a segment: a clock that was
// set back ends the segment, a small step back is no step.
func (w *Writer) stamp() []byte {
	now := w.now().UTC().Round(0)
	if now.Before(w.last) {
		if w.last.Sub(now) > time.Second {
			w.close()
		} else {
			now = w.last
		}
	}
	w.last = now
	return now.AppendFormat(make([]byte, 0, timeSize), timeLayout)
}

// flush writes w.out, all records of which bear the stamp.
func (w *Writer) flush(stamp []byte) {
	if w.dropped.lines > 0 {
		w.out = append(w.dropped.record(stamp), w.out...)
	}
	if len(w.out) == 0 {
		return
	}
	marked := w.dropped.lines > 0
	written, err := w.writeRecords()
	if written > 0 && marked {
		w.dropped = dropped{}
		marked = false
	}
	if err != nil {
		rest := w.out[written:]
		if marked { // the record that tells of earlier losses is not a loss itself
			rest = rest[bytes.IndexByte(rest, '\n')+1:]
		}
		w.dropped.add(rest, err)
	}
	w.out = w.out[:0]
	if cap(w.out) > 4*writeSize {
		w.out = nil
	}
}

// writeRecords writes w.out to the segment, tells how much of it is there in whole records, and takes
// back what is more.
func (w *Writer) writeRecords() (int, error) {
	if w.file != nil && (w.size+int64(len(w.out)) > w.opts.SegmentSize && w.size > 0 || w.last.Sub(w.opened) >= w.opts.SegmentAge) {
		w.close()
	}
	if w.file == nil {
		if err := w.open(); err != nil {
			return 0, err
		}
	}
	n, err := w.write(w.file, w.out)
	if err != nil {
		whole := bytes.LastIndexByte(w.out[:n], '\n') + 1
		if whole < n {
			if terr := w.file.Truncate(w.size + int64(whole)); terr != nil {
				w.size += int64(whole)
				w.close() // nothing may follow a torn record
				return whole, err
			}
		}
		n = whole
	}
	w.size += int64(n)
	return n, err
}

func (w *Writer) close() {
	if w.file != nil {
		_ = w.file.Close() // the kernel has every record already
		w.file = nil
	}
}

// open makes the next segment. It gets its name only once it is locked, so that nobody takes it for
// one that is complete.
func (w *Writer) open() error {
	if err := w.trim(); err != nil {
		return err
	}
	f, err := w.create()
	if errors.Is(err, fs.ErrNotExist) { // a clean-up took the folder
		if err = makeDir(w.dir); err == nil {
			f, err = w.create()
		}
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return err
	}
	for {
		w.number++
		name := Name{Attempt: w.attempt, Number: w.number}
		err := os.Link(f.Name(), w.dir+"/"+name.String())
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			f.Close()
			return err
		}
		w.file, w.size, w.opened = f, 0, w.last
		return nil
	}
}

// makeDir makes a folder, also when a clean-up removes empty ones above it meanwhile.
func makeDir(dir string) error {
	var err error
	for range 3 {
		if err = os.MkdirAll(dir, 0o750); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (w *Writer) create() (*os.File, error) {
	path := fmt.Sprintf("%s/%s%06d", w.dir, NewPrefix, w.attempt)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640)
}

// trim removes the oldest segments until there is room for one more within the limit.
func (w *Writer) trim() error {
	if w.opts.Limit < 0 {
		return nil
	}
	segments, err := List(w.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	total := w.opts.SegmentSize
	for _, s := range segments {
		total += s.Size
	}
	for _, s := range segments {
		if total <= w.opts.Limit {
			break
		}
		if err := os.Remove(w.dir + "/" + s.String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= s.Size
	}
	return nil
}
