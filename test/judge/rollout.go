package main

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/marucloud/maru/plan/judge"
)

// never is later than every request.
const never = 1 << 40

// verdict is when a release was taken back or promoted, in requests of the canary; never if it was not.
type verdict struct{ back, promoted int }

// result is what one rollout came to with each of the three.
type result struct {
	judge, thresholds, mannWhitney verdict
}

// run plays the rollouts of a row, on all processors. The same row and number give the same results.
func (r *row) run(rollouts int) []result {
	results := make([]result, rollouts)
	var next atomic.Int64
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(rollouts); i = next.Add(1) - 1 {
				results[i] = r.rollout(uint64(i))
			}
		})
	}
	group.Wait()
	return results
}

func (r *row) rollout(number uint64) result {
	rng := rand.New(rand.NewPCG(r.seed(), number))
	s := stream{row: r, rng: rng}
	if r.weather != nil {
		s.weather = r.weather(rng)
	}
	p := play{
		row: r, judge: judge.New(r.limits),
		peers:  [2]peer{&thresholds{limits: r.limits, next: 60}, &mannWhitney{next: 10}},
		result: result{verdict{never, never}, verdict{never, never}, verdict{never, never}},
	}
	p.open = [3]bool{true, !r.alone, !r.alone}
	for p.open != [3]bool{} {
		record := s.next()
		p.observe(record, s.at)
	}
	return p.result
}

// play is one rollout under way: each of the three goes on until it has decided.
type play struct {
	*row
	judge  *judge.Judge
	peers  [2]peer
	open   [3]bool
	canary int
	result result
}

func (p *play) observe(record judge.Record, at float64) {
	if record.Canary {
		p.canary++
	}
	if p.open[0] {
		p.open[0] = p.observeJudge(record, at)
	}
	for i, v := range []*verdict{&p.result.thresholds, &p.result.mannWhitney} {
		if !p.open[i+1] {
			continue
		}
		switch {
		case p.peers[i].observe(record, at):
			v.back, p.open[i+1] = p.canary, false
		case at >= patience:
			v.promoted, p.open[i+1] = p.canary, false
		}
	}
}

func (p *play) observeJudge(record judge.Record, at float64) (open bool) {
	v := &p.result.judge
	switch p.judge.Observe(record) {
	case judge.Regressed:
		v.back = p.canary
		return false
	case judge.Equivalent:
		v.promoted = min(v.promoted, p.canary)
		if p.watched == 0 {
			return false
		}
	case judge.Continue:
	}
	if p.watched > 0 {
		return at < p.watched.Seconds()
	}
	return p.canary < longest
}

// longest is how many of the canary's requests a rollout goes on for without a verdict.
const longest = 20000
