package dockerfile

import (
	"slices"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/marucloud/maru/delivery/build"
)

// keptLines is how much of its output a failed step shows.
const keptLines = 20

// maxLine bounds a line; a longer one is cut in pieces.
const maxLine = 16 << 10

// vertex is a step as far as it was told of.
type vertex struct {
	number  int
	name    string
	status  build.Status
	partial string
	last    []string
	moved   map[string]int64 // bytes of its transfers, by their ID
	total   map[string]int64
	told    time.Time // when its transfers were last told of
}

// progress turns BuildKit's graph into steps.
type progress struct {
	emit     func(build.Event)
	vertexes map[digest.Digest]*vertex
}

func newProgress(emit func(build.Event)) *progress {
	return &progress{emit: emit, vertexes: map[digest.Digest]*vertex{}}
}

func (p *progress) follow(statuses <-chan *bkclient.SolveStatus) {
	for s := range statuses {
		for _, v := range s.Vertexes {
			p.vertex(v)
		}
		for _, st := range s.Statuses {
			p.transfer(st)
		}
		for _, l := range s.Logs {
			p.output(l.Vertex, string(l.Data))
		}
		for _, w := range s.Warnings {
			p.output(w.Vertex, "warning: "+string(w.Short)+"\n")
		}
	}
	for _, v := range p.vertexes {
		p.flush(v)
	}
}

func (p *progress) find(d digest.Digest, name string) *vertex {
	v, ok := p.vertexes[d]
	if !ok {
		v = &vertex{number: len(p.vertexes) + 1, moved: map[string]int64{}, total: map[string]int64{}}
		p.vertexes[d] = v
	}
	if name != "" {
		v.name = name
	}
	return v
}

// unremarkable are steps that read the context. They tell nobody anything, unless they fail.
var unremarkable = []string{"[internal] load build definition from Dockerfile", "[internal] load .dockerignore", "[internal] load build context"}

func (p *progress) vertex(from *bkclient.Vertex) {
	if from.Started == nil && from.Completed == nil && from.Error == "" {
		return
	}
	if from.Error == "" && slices.Contains(unremarkable, from.Name) {
		return
	}
	v := p.find(from.Digest, from.Name)
	e := build.Event{Step: v.number, Name: v.name, Status: build.StepStarted, Error: from.Error}
	if from.Started != nil {
		e.Started = *from.Started
	}
	if from.Completed != nil {
		e.Completed = *from.Completed
		e.Status = build.StepDone
	}
	switch {
	case from.Error != "":
		e.Status = build.StepFailed
	case from.Cached:
		e.Status = build.StepCached
	}
	if e.Status == v.status {
		return
	}
	if e.Status != build.StepStarted {
		p.flush(v)
	}
	v.status = e.Status
	p.emit(e)
}

// betweenTransfers is how often a step's transfers are told of.
const betweenTransfers = 250 * time.Millisecond

func (p *progress) transfer(st *bkclient.VertexStatus) {
	if st.Total == 0 && st.Current == 0 {
		return
	}
	v := p.find(st.Vertex, "")
	v.moved[st.ID], v.total[st.ID] = st.Current, st.Total
	now := time.Now()
	if v.name == "" || v.status == "" || now.Sub(v.told) < betweenTransfers {
		return
	}
	v.told = now
	e := build.Event{Step: v.number, Name: v.name}
	for id := range v.moved {
		e.Moved += v.moved[id]
		e.Total += v.total[id]
	}
	p.emit(e)
}

func (p *progress) output(d digest.Digest, data string) {
	v := p.find(d, "")
	v.partial += data
	for {
		i := strings.IndexByte(v.partial, '\n')
		switch {
		case i >= 0 && i <= maxLine:
			p.line(v, v.partial[:i])
			v.partial = v.partial[i+1:]
		case len(v.partial) > maxLine:
			p.line(v, v.partial[:maxLine])
			v.partial = v.partial[maxLine:]
		default:
			return
		}
	}
}

func (p *progress) flush(v *vertex) {
	if v.partial != "" {
		p.line(v, v.partial)
		v.partial = ""
	}
}

func (p *progress) line(v *vertex, s string) {
	s = strings.TrimRight(s, "\r")
	p.emit(build.Event{Step: v.number, Name: v.name, Log: s})
	v.last = append(v.last, s)
	if len(v.last) > keptLines {
		v.last = v.last[1:]
	}
}
