package table

import (
	"cmp"
	"slices"

	"github.com/marucloud/maru"
)

type problemKey struct {
	service maru.ServiceID
	what    string
}

// News gets a value when [Table.Report] has something new to say.
func (t *Table) News() <-chan struct{} { return t.news }

func (t *Table) tell() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// Report tells which version is in force, what is in flight at draining instances, and what can't be done.
func (t *Table) Report() maru.TrafficReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := maru.TrafficReport{Version: t.version.Load()}
	if len(t.draining) > 0 {
		r.InFlight = make(map[string]int, len(t.draining))
	}
	for e := range t.draining {
		r.InFlight[e.Instance] = e.InFlight()
	}
	for _, p := range t.problems {
		r.Problems = append(r.Problems, p)
	}
	slices.SortFunc(r.Problems, func(a, b maru.TrafficProblem) int {
		return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), cmp.Compare(a.What, b.What))
	})
	return r
}

// follow reports an endpoint as long as it drains.
func (t *Table) follow(e *Endpoint, s maru.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Draining {
		t.draining[e] = struct{}{}
	} else {
		delete(t.draining, e)
	}
}

func (t *Table) idle(*Endpoint) { t.tell() }

// Problem notes that a part of a service's traffic is not in force.
func (t *Table) Problem(id maru.ServiceID, what, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := maru.TrafficProblem{Service: id, What: what, Why: why}
	if t.problems[problemKey{id, what}] != p {
		t.problems[problemKey{id, what}] = p
		t.tell()
	}
}

// Solved takes a problem back; what "" all of the service.
func (t *Table) Solved(id maru.ServiceID, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.problems) == 0 {
		return
	}
	for k := range t.problems {
		if k.service == id && (what == "" || k.what == what) {
			delete(t.problems, k)
			t.tell()
		}
	}
}
