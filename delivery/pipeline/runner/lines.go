package runner

import (
	"bytes"
	"strings"
	"sync"
)

// maxLine is how long a line of a log is, in bytes. A longer one becomes several.
const maxLine = 64 << 10

// lines splits a stream into lines. Each is given without its end, as valid UTF-8; whole tells whether
// it begins where a line begins.
type lines struct {
	mu      *sync.Mutex // held while take is called, shared by a step's streams
	masks   *Masks
	take    func(line string, begins bool)
	pending []byte
	within  bool // the line began before
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i >= 0 {
			l.pending = append(l.pending, rest[:i]...)
			l.flush(len(l.pending))
			l.within = false
			rest = rest[i+1:]
			continue
		}
		n := min(len(rest), 2*maxLine)
		l.pending = append(l.pending, rest[:n]...)
		rest = rest[n:]
		if len(l.pending) > maxLine {
			if at := l.masks.cut(string(l.pending)); at > 0 {
				l.flush(at)
				l.within = true
			} else if len(l.pending) > 8*maxLine { // a secret of this size: nothing of it is shown
				l.pending = l.pending[:0]
			}
		}
	}
	return len(p), nil
}

// flush gives the first n bytes of what is pending.
func (l *lines) flush(n int) {
	text := strings.TrimSuffix(string(l.pending[:n]), "\r")
	l.pending = append(l.pending[:0], l.pending[n:]...)
	l.take(strings.ToValidUTF8(text, "\uFFFD"), !l.within)
}

// Close gives what is left without an end of line.
func (l *lines) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) > 0 {
		l.flush(len(l.pending))
	}
}
