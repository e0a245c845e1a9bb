package table

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/limit"
)

// simulation is a service under load in virtual time: the table's own code chooses, and is told what
// instances of a model answer. Requests come at random (Poisson); an instance has workers and a queue.
type simulation struct {
	rand  *rand.Rand
	now   time.Duration // since start
	start time.Time
	todo  events
	svc   *Service
	rate  float64 // requests a second
	until time.Duration
	warm  time.Duration // answers before that are not counted

	low     float64 // share of requests that are of low priority
	answers []answer

	models map[*Endpoint]*model
	took   []time.Duration
	failed int
}

// answer is what came of a request.
type answer struct {
	came, at time.Duration
	refused  bool
	priority limit.Priority
}

func (s *simulation) record(a answer) { s.answers = append(s.answers, a) }

func (s *simulation) priority() limit.Priority {
	if s.low > 0 && s.rand.Float64() < s.low {
		return limit.Low
	}
	return limit.Normal
}

// model is how an instance serves.
type model struct {
	workers int
	mean    time.Duration // exponential
	even    bool          // always the mean instead
	broken  bool          // fails at once
	loose   bool          // so few answers in the time of a test that chance has a large part in it

	busy    int
	queue   []func()
	answers int // counted ones
}

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulate makes a service of instances as the models say.
func simulate(t testing.TB, traffic maru.ServiceTraffic, rate float64, models ...*model) *simulation {
	x := New()
	for i := range models {
		traffic.Endpoints = append(traffic.Endpoints, maru.Endpoint{Instance: fmt.Sprintf("web-%02d", i), Release: 1, Addresses: address(i + 1), Ready: true})
	}
	apply(t, x, traffic)
	s := &simulation{rand: rand.New(rand.NewPCG(1, 2)), start: time.Now(), svc: x.must("web"), rate: rate, models: map[*Endpoint]*model{}}
	for i, e := range s.svc.State().Endpoints() {
		s.models[e] = models[i]
	}
	return s
}

func (s *simulation) after(d time.Duration, do func()) { heap.Push(&s.todo, event{s.now + d, do}) }

func (s *simulation) moment() int64 { return s.start.Add(s.now).UnixNano() }

// run has requests come for a time, and waits for their answers.
func (s *simulation) run(warm, until time.Duration) {
	s.warm, s.until = warm, until
	s.arrive()
	for len(s.todo) > 0 {
		e := heap.Pop(&s.todo).(event)
		s.now = e.at
		e.do()
	}
}

func (s *simulation) arrive() {
	if s.now > s.until {
		return
	}
	s.after(time.Duration(s.rand.ExpFloat64()/s.rate*float64(time.Second)), s.arrive)
	s.request()
}

func (s *simulation) request() {
	came := s.now
	limiter, p := s.svc.State().Limiter(), s.priority()
	if limiter != nil && !limiter.Enter(s.moment(), p) {
		s.record(answer{came: came, refused: true, priority: p})
		return
	}
	e := s.svc.PickFor(Ask{Now: s.moment()}, nil)
	m, load := s.models[e], e.InFlight()
	s.serve(m, func() {
		if !m.broken {
			e.Took(s.moment(), load, s.now-came)
		}
		e.Answered(s.moment(), m.broken)
		e.Done()
		if limiter != nil {
			limiter.Leave(s.start.Add(came).UnixNano(), s.moment(), !m.broken)
		}
		s.record(answer{came: came, at: s.now, priority: p})
		if came < s.warm {
			return
		}
		m.answers++
		s.took = append(s.took, s.now-came)
		if m.broken {
			s.failed++
		}
	})
}

func (s *simulation) serve(m *model, done func()) {
	if m.broken {
		s.after(time.Millisecond, done)
		return
	}
	work := func() {
		d := m.mean
		if !m.even {
			d = time.Duration(s.rand.ExpFloat64() * float64(m.mean))
		}
		s.after(d, func() {
			done()
			if m.busy--; len(m.queue) > 0 {
				next := m.queue[0]
				m.queue = m.queue[1:]
				m.busy++
				next()
			}
		})
	}
	if m.busy == m.workers {
		m.queue = append(m.queue, work)
		return
	}
	m.busy++
	work()
}

func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(float64(len(all)-1)*q)]
}

// TestSlowInstance: one of ten instances is ten times slower than the others, at 70 % of what all can do.
func TestSlowInstance(t *testing.T) {
	p99 := map[maru.BalancePolicy]time.Duration{}
	for _, policy := range []maru.BalancePolicy{maru.RoundRobin, maru.LeastRequests, maru.Prequal} {
		var models []*model
		for range 9 {
			models = append(models, &model{workers: 4, mean: 10 * time.Millisecond})
		}
		slow := &model{workers: 4, mean: 100 * time.Millisecond}
		s := simulate(t, many(policy, 0), 0.7*9.1*400, append(models, slow)...)
		s.run(5*time.Second, 35*time.Second)
		p99[policy] = quantile(s.took, 0.99)
		t.Logf("%-14s p50 %8s p99 %8s, the slow one got %.2f %% of %d requests", policy,
			quantile(s.took, 0.5).Round(10*time.Microsecond), p99[policy].Round(10*time.Microsecond),
			float64(slow.answers)*100/float64(len(s.took)), len(s.took))
	}
	if p99[maru.Prequal] > p99[maru.RoundRobin]/2 || p99[maru.Prequal] > p99[maru.LeastRequests] {
		t.Error(p99)
	}
}

// TestFastFailure: one of ten instances answers at once that it failed.
func TestFastFailure(t *testing.T) {
	for _, policy := range []maru.BalancePolicy{maru.RoundRobin, maru.LeastRequests, maru.Prequal} {
		var models []*model
		for range 9 {
			models = append(models, &model{workers: 4, mean: 10 * time.Millisecond})
		}
		broken := &model{workers: 4, broken: true}
		s := simulate(t, many(policy, 0), 0.7*9*400, append(models, broken)...)
		var before int // requests until it is ejected
		of := 0
		e := s.svc.State().Endpoints()[9]
		var watch func()
		watch = func() {
			if e.outlier.until.Load() == 0 && s.now < s.until {
				before, of = broken.answers, len(s.took)
				s.after(time.Millisecond, watch)
			}
		}
		s.after(0, watch)
		s.run(0, 30*time.Second)
		share := float64(s.failed) / float64(len(s.took))
		t.Logf("%-14s ejected after %d of %d requests, failed %.3f %% of %d", policy, before, of, share*100, len(s.took))
		if e.outlier.until.Load() == 0 || share > 0.01 {
			t.Error("it was not ejected")
		}
		if before > of/10+rowMost {
			t.Error("it got more than its share")
		}
	}
}

// rowMost is how many failures in a row an instance may have by chance before it is ejected.
const rowMost = 6

// phase gives what became of the requests that came in a time.
func (s *simulation) phase(from, to time.Duration) (answered, refused int, p99 time.Duration) {
	var took []time.Duration
	for _, a := range s.answers {
		switch {
		case a.came < from || a.came >= to:
		case a.refused:
			refused++
		default:
			took = append(took, a.at-a.came)
		}
	}
	return len(took), refused, quantile(took, 0.99)
}

// TestOverload: for 20 s there is three times as much as ten instances can do.
func TestOverload(t *testing.T) {
	for name, m := range map[string]model{
		"4 workers, exponential":   {workers: 4, mean: 20 * time.Millisecond},
		"4 workers, even":          {workers: 4, mean: 10 * time.Millisecond, even: true},
		"1 worker, exponential":    {workers: 1, mean: 10 * time.Millisecond},
		"16 workers, exponential":  {workers: 16, mean: 100 * time.Millisecond},
		"2 slow ones, exponential": {workers: 2, mean: 200 * time.Millisecond, loose: true},
	} {
		t.Run(name, func(t *testing.T) {
			traffic := many(maru.Prequal, 0)
			traffic.Limits.Concurrency = -1
			var models []*model
			for range 10 {
				models = append(models, &model{workers: m.workers, mean: m.mean, even: m.even})
			}
			can := 10 * float64(m.workers) / m.mean.Seconds()
			s := simulate(t, traffic, 0.7*can, models...)
			const begin, end, over = 20 * time.Second, 40 * time.Second, 60 * time.Second
			s.after(begin, func() { s.rate = 3 * can })
			s.after(end, func() { s.rate = 0.7 * can })
			s.run(0, over)
			_, falsely, normal := s.phase(5*time.Second, begin)
			did, refused, p99 := s.phase(begin, end)
			_, later, after := s.phase(end+5*time.Second, over)
			goodput := float64(did) / (can * (end - begin).Seconds())
			t.Logf("goodput %.1f %% of what it can do, p99 %s, %.2f times the normal %s; %d refused; 5 s later p99 %s; falsely refused %d before, %d after; bound %d",
				goodput*100, p99.Round(100*time.Microsecond), float64(p99)/float64(normal), normal.Round(100*time.Microsecond), refused, after.Round(100*time.Microsecond), falsely, later, s.svc.State().Limiter().Bound())
			want := 0.9
			if m.loose {
				want = 0.8 // of few requests, by chance
			}
			if goodput < want || p99 > 3*normal || after > normal*3/2 {
				t.Error("too little, or too late")
			}
		})
	}
}

// TestUnknownService is under overload from its first request on, when nothing is known of it: the latency
// without waiting shows when fewer requests are let through.
func TestUnknownService(t *testing.T) {
	traffic := many(maru.Prequal, 0)
	traffic.Limits.Concurrency = -1
	var models []*model
	for range 10 {
		models = append(models, &model{workers: 4, mean: 20 * time.Millisecond})
	}
	s := simulate(t, traffic, 3*2000, models...)
	s.run(0, 20*time.Second)
	did, _, p99 := s.phase(5*time.Second, 20*time.Second)
	goodput := float64(did) / (2000 * 15)
	t.Logf("goodput %.1f %%, p99 %s, bound %d", goodput*100, p99, s.svc.State().Limiter().Bound())
	if goodput < 0.9 || p99 > 3*92*time.Millisecond {
		t.Error("too little, or too late")
	}
}

// TestLeastImportantIsShed: of three times as much as can be done, a quarter matters more.
func TestLeastImportantIsShed(t *testing.T) {
	traffic := many(maru.Prequal, 0)
	traffic.Limits.Concurrency = -1
	var models []*model
	for range 10 {
		models = append(models, &model{workers: 4, mean: 20 * time.Millisecond})
	}
	s := simulate(t, traffic, 3*2000, models...)
	s.low = 0.75
	s.run(0, 20*time.Second)
	var of, did [2]int
	for _, a := range s.answers {
		if a.came < 5*time.Second {
			continue
		}
		of[a.priority]++
		if !a.refused {
			did[a.priority]++
		}
	}
	low, normal := float64(did[limit.Low])/float64(of[limit.Low]), float64(did[limit.Normal])/float64(of[limit.Normal])
	t.Logf("answered: %.1f %% of normal, %.1f %% of low priority", normal*100, low*100)
	if normal < 0.9 || low > 0.2 {
		t.Error("what matters was refused, or what does not was not")
	}
}
