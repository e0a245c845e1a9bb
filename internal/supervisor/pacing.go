package supervisor

import "time"

const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = time.Second // nothing is served meanwhile
	// freeRestarts is how many times in quick succession a process that did its work is started again at
	// once. One more is free after each forgiven. Then it waits for a pause that still is short.
	freeRestarts = 10
	forgiven     = time.Second
	shortPause   = 250 * time.Millisecond
)

// pacing decides how long a process that ended waits until it is started again. What had become ready did
// its work: something happened to it, and its successor starts at once, unless that goes on. What ends
// before it is ready will likely do so again.
type pacing struct {
	unready int       // ends before it was ready, in a row
	spent   time.Time // when all restarts so far will be forgiven
}

func (p *pacing) after(now time.Time, wasReady bool) time.Duration {
	if !wasReady {
		p.unready++
		if p.unready == 1 {
			return 0
		}
		return min(backoffFirst<<min(p.unready-2, 10), backoffMost)
	}
	p.unready = 0
	if p.spent.Before(now) {
		p.spent = now
	}
	p.spent = p.spent.Add(forgiven)
	over := p.spent.Sub(now) - freeRestarts*forgiven
	if over <= 0 {
		return 0
	}
	p.spent = now.Add(freeRestarts * forgiven)
	return min(over, shortPause)
}
