package record

import (
	"sync"

	"github.com/marucloud/maru"
)

// mostEvidence is how many requests of one service wait to be told of. More are lost, whatever became of them.
const mostEvidence = 8192

// Evidence gathers how requests went that were drawn between two releases. It is for many goroutines. A nil
// Evidence takes and forgets them.
type Evidence struct {
	mu   sync.Mutex
	by   map[pair]*maru.Evidence
	more chan struct{}
}

type pair struct {
	service    maru.ServiceID
	old, fresh int
}

// NewEvidence makes one without any.
func NewEvidence() *Evidence {
	return &Evidence{by: map[pair]*maru.Evidence{}, more: make(chan struct{}, 1)}
}

// Put takes a request of a service whose traffic is shared out so.
func (e *Evidence) Put(service maru.ServiceID, split *maru.Split, r maru.EvidenceRecord) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	key := pair{service, split.Old, split.New}
	all := e.by[key]
	if all == nil {
		all = &maru.Evidence{Service: service, Old: split.Old, New: split.New}
		e.by[key] = all
	}
	if len(all.Records) == mostEvidence {
		all.Lost++
		return
	}
	all.Records = append(all.Records, r)
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// More gets a value when there is something to take.
func (e *Evidence) More() <-chan struct{} { return e.more }

// Take gives what was gathered, and forgets it.
func (e *Evidence) Take() []maru.Evidence {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []maru.Evidence
	for _, all := range e.by {
		out = append(out, *all)
	}
	clear(e.by)
	return out
}
