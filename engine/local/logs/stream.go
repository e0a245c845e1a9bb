package logs

import (
	"errors"
	"io/fs"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs/segment"
)

// stream reads one instance's log, in either direction.
type stream struct {
	place
	at      position  // of the next record forward, or of the last one given backward
	end     *position // where to stop forward; nil: not at all
	start   position  // where to stop backward
	resumed bool      // by a cursor: how old the records are does not matter
	name    segment.Name
	scan    *scanner // of the segment name; nil: none is open

	key    time.Time // of the record that the stream stands at, never going against the direction
	record segment.Record
	after  position // the place behind record
	parked bool     // key is only a bound, and nothing is open
	queued bool     // among those to give out
}

// release closes what is open. The stream goes on where it stands when it is used again.
func (s *stream) release() {
	if s.scan != nil {
		_ = s.scan.src.Close() // it was only read
		s.scan = nil
	}
}

// list gives the segments; none when the log is gone.
func (s *stream) list() ([]segment.File, error) {
	files, err := segment.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return files, err
}

// open opens the segment; false when it is gone.
func (s *stream) open(name segment.Name) (bool, error) {
	s.release()
	src, err := openSegment(s.dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.name, s.scan = name, &scanner{src: src}
	return true, nil
}

// next gives the next record. It is false at the end, for now.
func (s *stream) next() (segment.Record, bool, error) {
	for {
		if s.scan == nil {
			if ok, err := s.openForward(false); err != nil || !ok {
				return segment.Record{}, false, err
			}
		}
		r, ok, err := s.nextHere()
		if err != nil || ok {
			return r, ok, err
		}
		if s.end != nil && !s.at.before(*s.end) {
			return segment.Record{}, false, nil
		}
		more, err := s.later()
		if err != nil || !more {
			return segment.Record{}, false, err
		}
		// The writer may have appended before it made the later segment.
		if r, ok, err := s.nextHere(); err != nil || ok {
			return r, ok, err
		}
		if ok, err := s.openForward(true); err != nil || !ok {
			return segment.Record{}, false, err
		}
	}
}

// nextHere gives the next record of the open segment.
func (s *stream) nextHere() (segment.Record, bool, error) {
	for s.end == nil || s.at.before(*s.end) {
		line, ok, err := s.scan.next()
		if err != nil || !ok {
			return segment.Record{}, false, err
		}
		s.at.Offset = s.scan.off
		if r, ok := segment.Decode(line); ok {
			return r, true, nil
		}
	}
	return segment.Record{}, false, nil
}

// later tells whether there is a segment behind the open one.
func (s *stream) later() (bool, error) {
	files, err := s.list()
	return len(files) > 0 && files[len(files)-1].Compare(s.name) > 0, err
}

// openForward opens the segment that the position is in, or is to go on in when that is gone or
// finished.
func (s *stream) openForward(finished bool) (bool, error) {
	files, err := s.list()
	if err != nil {
		return false, err
	}
	here := segment.Name{Attempt: s.at.Attempt, Number: s.at.Number}
	for _, f := range files {
		c := f.Compare(here)
		if c < 0 || c == 0 && finished {
			continue
		}
		offset := int64(0)
		if c == 0 {
			offset = s.at.Offset
		}
		ok, err := s.open(f.Name)
		if err != nil {
			return false, err
		}
		if ok {
			s.at = position{f.Attempt, f.Number, offset}
			s.scan.off = offset
			return true, nil
		}
	}
	return false, nil
}

// seekTime goes to the first record that is not before t.
func (s *stream) seekTime(t time.Time) error {
	if t.IsZero() {
		return nil
	}
	files, err := s.list()
	if err != nil {
		return err
	}
	for _, f := range files {
		if endsBefore(f, t) {
			s.at = position{f.Attempt, f.Number + 1, 0}
			continue
		}
		ok, err := s.open(f.Name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		found, err := s.scan.seek(t)
		if err != nil {
			return err
		}
		if s.at = (position{f.Attempt, f.Number, s.scan.off}); found {
			return nil
		}
	}
	return nil
}

// endsBefore tells from when the segment was last written to whether all of it is before t. The
// kernel's clock for files is a little behind.
func endsBefore(f segment.File, t time.Time) bool { return f.Modified.Add(time.Second).Before(t) }

// seekEnd goes behind the last record.
func (s *stream) seekEnd() error {
	files, err := s.list()
	if err != nil {
		return err
	}
	for i := len(files) - 1; i >= 0; i-- {
		ok, err := s.open(files[i].Name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		end, err := s.scan.lastEnd()
		if err != nil {
			return err
		}
		s.scan.off = end
		s.at = position{files[i].Attempt, files[i].Number, end}
		return nil
	}
	return nil
}

// prev gives the record before, and stands at its beginning. It is false at the beginning of the log.
func (s *stream) prev() (segment.Record, bool, error) {
	for {
		if s.scan == nil {
			if ok, err := s.openBackward(); err != nil || !ok {
				return segment.Record{}, false, err
			}
		}
		line, ok, err := s.scan.prev()
		if err != nil {
			return segment.Record{}, false, err
		}
		s.at.Offset = s.scan.off
		if !ok {
			s.release()
			continue
		}
		if r, ok := segment.Decode(line); ok {
			return r, true, nil
		}
	}
}

// openBackward opens the segment that the position is in, or the one before when it stands at its
// beginning.
func (s *stream) openBackward() (bool, error) {
	files, err := s.list()
	if err != nil {
		return false, err
	}
	here := segment.Name{Attempt: s.at.Attempt, Number: s.at.Number}
	for i := len(files) - 1; i >= 0; i-- {
		c := files[i].Compare(here)
		if c > 0 || c == 0 && s.at.Offset == 0 {
			continue
		}
		ok, err := s.open(files[i].Name)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		s.scan.off = s.at.Offset
		if c < 0 {
			if s.scan.off, err = s.scan.lastEnd(); err != nil {
				return false, err
			}
		}
		s.at = position{files[i].Attempt, files[i].Number, s.scan.off}
		return true, nil
	}
	return false, nil
}

// entry gives the record that the stream stands at as what a reader gets.
func (s *stream) entry() maru.LogEntry {
	return maru.LogEntry{
		Time: s.record.Time, Workload: s.workload, Instance: s.instance, Attempt: s.after.Attempt,
		Stream: string(s.record.Stream), Line: string(s.record.Line), Partial: s.record.Partial, Cursor: s.after.String(),
	}
}
