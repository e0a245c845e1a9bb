package http2

import "slices"

// streamList is streams by their numbers, which only grow.
type streamList []*stream

func (l streamList) find(id uint32) (int, bool) {
	return slices.BinarySearchFunc(l, id, func(s *stream, id uint32) int { return int(s.id) - int(id) })
}

// get gives a stream, or nil.
func (l streamList) get(id uint32) *stream {
	if i, ok := l.find(id); ok {
		return l[i]
	}
	return nil
}

// add adds the newest stream.
func (l *streamList) add(s *stream) { *l = append(*l, s) }

// remove takes a stream out. A list of none keeps little memory.
func (l *streamList) remove(s *stream) {
	if i, ok := l.find(s.id); ok {
		*l = slices.Delete(*l, i, i+1)
	}
	if len(*l) == 0 && cap(*l) > 8 {
		*l = nil
	}
}

// remembered is how many streams are kept in mind.
const remembered = 64

// recent are the numbers of the streams to which something happened last.
type recent struct {
	list []uint32
	next int
}

func (r *recent) add(id uint32) {
	if len(r.list) < remembered {
		r.list = append(r.list, id)
		return
	}
	r.list[r.next%remembered] = id
	r.next++
}

func (r *recent) has(id uint32) bool { return slices.Contains(r.list, id) }
