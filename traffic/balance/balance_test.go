package balance

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestChoose gives what each policy chooses of a few readings, always the only one there is to choose.
func TestChoose(t *testing.T) {
	const full = 1.0
	for name, c := range map[string]struct {
		policy Policy
		hot    float64
		pool   []Reading
		want   int
	}{
		"the quick one":                    {Prequal, 5, []Reading{{Latency: 0.1, Share: full}, {Latency: 0.01, Share: full}}, 1},
		"as good, but less busy":           {Prequal, 5, []Reading{{Latency: 0.010, InFlight: 3, Share: full}, {Latency: 0.014, InFlight: 1, Share: full}}, 1},
		"the quick one is hot":             {Prequal, 5, []Reading{{Latency: 0.1, Share: full}, {Latency: 0.01, InFlight: 6, Share: full}}, 0},
		"all are hot":                      {Prequal, 1, []Reading{{Latency: 0.1, InFlight: 3, Share: full}, {Latency: 0.01, InFlight: 6, Share: full}}, 0},
		"slow, but long ago":               {Prequal, 5, []Reading{{Latency: 0.1, Age: 100, Share: full}, {Latency: 0.01, InFlight: 1, Share: full}}, 0},
		"not known is as good as the best": {Prequal, 5, []Reading{{Share: full}, {Latency: 0.01, InFlight: 1, Share: full}}, 0},
		"quick to fail":                    {Prequal, 5, []Reading{{Latency: 0.01, Failing: 0.5, Share: full}, {Latency: 0.02, InFlight: 4, Share: full}}, 1},
		"idle, for it fails":               {LeastRequests, 0, []Reading{{Failing: 0.5, Share: full}, {InFlight: 3, Share: full}}, 1},
		"the least busy":                   {LeastRequests, 0, []Reading{{InFlight: 3, Share: full}, {InFlight: 2, Share: full}}, 1},
		"the only one that is not out":     {RoundRobin, 0, []Reading{{Out: true, Share: full}, {Share: full}, {Out: true, Share: full}}, 1},
		"all are out":                      {Prequal, 5, []Reading{{Out: true, Share: full}, {Out: true, Share: full}}, -1},
	} {
		for seed := range 50 {
			d := Dice(seed)
			if got := Choose(c.policy, c.pool, c.hot, &d); got != c.want {
				t.Errorf("%s: chose %d, want %d", name, got, c.want)
				break
			}
		}
	}
}

// TestChooseIsSane: whatever is known, one that is not out is chosen if there is one.
func TestChooseIsSane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Reading {
			return Reading{
				InFlight: rapid.IntRange(0, 1000).Draw(t, "in flight"), Latency: rapid.Float64Range(0, 100).Draw(t, "latency"),
				Age: rapid.Float64Range(0, 1e6).Draw(t, "age"), Failing: rapid.Float64Range(0, 1).Draw(t, "failing"),
				Share: rapid.Float64Range(0.1, 1).Draw(t, "share"), Out: rapid.Bool().Draw(t, "out"),
			}
		}), 1, MostPool).Draw(t, "pool")
		policy := rapid.SampledFrom([]Policy{Prequal, RoundRobin, LeastRequests, Hash}).Draw(t, "policy")
		dice := Dice(rapid.Uint64().Draw(t, "seed"))
		got, some := Choose(policy, pool, rapid.Float64Range(0, 100).Draw(t, "hot"), &dice), false
		for _, r := range pool {
			some = some || !r.Out
		}
		if some != (got >= 0) || got >= 0 && pool[got].Out {
			t.Fatalf("chose %d", got)
		}
	})
}

func TestQuantile(t *testing.T) {
	var q Quantile
	d := Dice(1)
	sum := 0.0
	for i := range 20_000 {
		if q.Add(float64(d.Roll(1000)), 0.9, 1); i >= 10_000 {
			sum += q.Get()
		}
	}
	if got := sum / 10_000; got < 850 || got > 950 {
		t.Error(got)
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	at := int64(1_800_000_000) * int64(time.Second)
	if l, _ := m.Latency(at, 1); l != 0 || m.Failing(at) != 0 {
		t.Error(l)
	}
	for range 50 {
		m.Took(at, 1, 10*time.Millisecond)
		m.Took(at, 8, 80*time.Millisecond)
	}
	for inFlight, want := range map[int]float64{1: 0.01, 8: 0.08, 7: 0.08, 100: 0.08} {
		if l, age := m.Latency(at, inFlight); l < want*0.99 || l > want*1.01 || age != 0 {
			t.Errorf("with %d: %v, %v old", inFlight, l, age)
		}
	}
	at += int64(3 * time.Second)
	m.Took(at, 1, 20*time.Millisecond)
	if l, _ := m.Latency(at, 8); l > 0.021 {
		t.Errorf("%v at another load counts, though it is old", l)
	}
	for range 100 {
		m.Failed(at)
	}
	if f := m.Failing(at); f < 0.99 {
		t.Error(f)
	}
	if f := m.Failing(at + int64(2*time.Second)); f > 0.51 {
		t.Errorf("%v after two seconds", f)
	}
}

func TestOutlier(t *testing.T) {
	for _, c := range []struct {
		row             int
		failing, others float64
		out, of         int
		want            bool
	}{
		{5, 0.4, 0, 0, 10, true},
		{4, 0.4, 0, 0, 10, false},
		{2, 0.6, 0, 0, 10, true},
		{1, 0.6, 0, 0, 10, false},
		{9, 0.9, 0.8, 0, 10, false}, // all fail
		{9, 0.9, 0, 3, 10, false},   // enough are out
		{9, 0.9, 0, 2, 10, true},
		{9, 0.9, 0, 0, 2, true},
		{9, 0.9, 0, 1, 2, false},
		{9, 0.9, 0, 0, 1, false},
	} {
		if got := Outlier(c.row, c.failing, c.others, c.out, c.of); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if Ejection(1) != 5*time.Second || Ejection(2) != 10*time.Second || Ejection(50) != 5*time.Minute {
		t.Error(Ejection(1), Ejection(2), Ejection(50))
	}
}
