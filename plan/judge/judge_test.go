package judge

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// traffic draws requests of two releases.
type traffic struct {
	rng    *rand.Rand
	weight float64
	errors [2]float64 // of the old release and the canary
	slower [2]float64
	at     time.Time
}

func newTraffic(seed uint64, weight float64) *traffic {
	return &traffic{rng: rand.New(rand.NewPCG(seed, 1)), weight: weight, slower: [2]float64{1, 1}, at: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)}
}

func (g *traffic) next() Record {
	r := Record{Canary: g.rng.Float64() < g.weight, Weight: g.weight}
	side := 0
	if r.Canary {
		side = 1
	}
	g.at = g.at.Add(20 * time.Millisecond)
	r.At = g.at
	if r.Failed = g.rng.Float64() < g.errors[side]; !r.Failed {
		r.Latency = time.Duration(g.slower[side] * (0.1 + g.rng.ExpFloat64()) * float64(100*time.Millisecond))
	}
	return r
}

// until gives records to the judge until it comes to one of the outcomes or the canary has had n
// requests, and returns how many it had.
func until(j *Judge, g *traffic, n int64, outcomes ...Outcome) int64 {
	begin := j.canary.requests
	for j.canary.requests-begin < n {
		if got := j.Observe(g.next()); slices.Contains(outcomes, got) {
			break
		}
	}
	return j.canary.requests - begin
}

func TestAReleaseThatGoesBadLateIsCaught(t *testing.T) {
	j, g := New(Limits{}), newTraffic(1, 0.05)
	g.errors = [2]float64{0.01, 0.01}
	until(j, g, 20000, Regressed)
	if j.outcome != Equivalent {
		t.Fatalf("20,000 requests of an equal release: %+v", j.Verdict())
	}
	g.errors[1] = 0.2
	if n := until(j, g, 2000, Regressed); j.outcome != Regressed || n > 500 {
		t.Fatalf("after %d requests of which a fifth fails: %+v", n, j.Verdict())
	}
}

func TestTheWeightMayChange(t *testing.T) {
	back := 0
	for seed := range uint64(100) {
		j, g := New(Limits{Errors: 0.05}), newTraffic(seed, 0.05)
		g.errors = [2]float64{0.02, 0.02}
		for _, g.weight = range []float64{0.05, 0.25, 0.5, 0.9} {
			until(j, g, 500, Regressed)
		}
		if j.outcome == Regressed {
			back++
		}
	}
	if back > 1 {
		t.Fatalf("%d of 100 equal releases were taken back", back)
	}
}

func TestLatencyThatDoesNotCount(t *testing.T) {
	j, g := New(Limits{AnyLatency: true}), newTraffic(1, 0.5)
	g.slower[1] = 10
	if until(j, g, 20000, Equivalent, Regressed); j.outcome != Equivalent {
		t.Fatalf("ten times as slow: %+v", j.Verdict())
	}
	j = New(Limits{AnyLatency: true, P99: time.Second})
	if until(j, g, 20000, Equivalent, Regressed); j.outcome != Regressed {
		t.Fatalf("above the ceiling: %+v", j.Verdict())
	}
}

func TestALatencyThatDoesNotCount(t *testing.T) {
	j, g := New(Limits{P99: time.Second}), newTraffic(1, 0.5)
	g.slower[1] = 10
	for range 5000 {
		r := g.next()
		r.Latency = -1
		if got := j.Observe(r); got != Continue {
			t.Fatalf("%+v", j.Verdict())
		}
	}
	if f := j.Figures(); f.Canary.Requests == 0 || f.Canary.P50 != 0 {
		t.Fatalf("%+v", f)
	}
}

func TestNothingIsComparedWithoutTwoReleases(t *testing.T) {
	j := New(Limits{})
	for _, weight := range []float64{0, 1, -1, 2, math.NaN()} {
		for range 100 {
			if got := j.Observe(Record{Canary: true, Failed: true, Weight: weight}); got != Continue {
				t.Fatalf("weight %v: %s", weight, got)
			}
		}
	}
	if f := j.Figures(); f.Canary.Requests != 0 {
		t.Fatalf("counted: %+v", f)
	}
}

func TestRegressedIsFinal(t *testing.T) {
	j, g := New(Limits{}), newTraffic(1, 0.05)
	g.errors[1] = 1
	until(j, g, 10, Regressed)
	want := j.Verdict()
	if want.Outcome != Regressed {
		t.Fatalf("%+v", want)
	}
	for range 100 {
		j.Observe(g.next())
	}
	if diff := cmp.Diff(want, j.Verdict()); diff != "" {
		t.Fatal(diff)
	}
}

// The same records give the same verdict, and asking changes nothing.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(Limits{Errors: 0.01, P99: time.Second}), New(Limits{Errors: 0.01, P99: time.Second})
		for _, r := range rapid.SliceOf(anyRecord()).Draw(t, "records") {
			if a.Observe(r) != b.Observe(r) {
				t.Fatal("two judges differ")
			}
			a.Verdict()
		}
		if diff := cmp.Diff(a.Verdict(), b.Verdict()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func anyRecord() *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		return Record{
			Canary: rapid.Bool().Draw(t, "canary"), Failed: rapid.Bool().Draw(t, "failed"),
			Latency: time.Duration(rapid.Int64().Draw(t, "latency")),
			Weight:  rapid.SampledFrom([]float64{0.05, 0.25, 0.5}).Draw(t, "weight"),
		}
	})
}

func TestObservingTakesNoMemory(t *testing.T) {
	j, g := New(Limits{Errors: 0.01, P50: time.Second, P99: 3 * time.Second}), newTraffic(1, 0.05)
	if n := testing.AllocsPerRun(20000, func() { j.Observe(g.next()) }); n != 0 {
		t.Fatalf("%v allocations for a record", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	j, g := New(Limits{Errors: 0.01, P99: 3 * time.Second}), newTraffic(1, 0.05)
	records := make([]Record, 1<<16)
	for i := range records {
		records[i] = g.next()
	}
	for i := 0; b.Loop(); i++ {
		j.Observe(records[i&(1<<16-1)])
	}
}

func TestValidate(t *testing.T) {
	for _, l := range []Limits{{}, {Errors: 0.01, P50: time.Second, P95: time.Second, P99: time.Second, ErrorMargin: 0.1, ErrorRatioMargin: 3, LatencyMargin: 2}} {
		if err := l.Validate(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for _, l := range []Limits{{Errors: 1}, {Errors: -0.1}, {P99: -1}, {ErrorMargin: 1}, {ErrorRatioMargin: -1}, {LatencyMargin: -1}} {
		var kind *maru.Error
		if err := l.Validate(); !errors.As(err, &kind) || kind.Kind != maru.Invalid {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
