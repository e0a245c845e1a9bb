package logs

// merge orders streams by the time that they stand at, and by name to be definite.
type merge struct {
	streams     []*stream
	latestFirst bool
}

func (m *merge) Len() int { return len(m.streams) }

func (m *merge) Less(i, j int) bool {
	a, b := m.streams[i], m.streams[j]
	if m.latestFirst {
		a, b = b, a
	}
	if !a.key.Equal(b.key) {
		return a.key.Before(b.key)
	}
	return a.dir < b.dir
}

func (m *merge) Swap(i, j int) { m.streams[i], m.streams[j] = m.streams[j], m.streams[i] }

func (m *merge) Push(s any) { m.streams = append(m.streams, s.(*stream)) }

func (m *merge) Pop() any {
	s := m.streams[len(m.streams)-1]
	m.streams = m.streams[:len(m.streams)-1]
	return s
}
