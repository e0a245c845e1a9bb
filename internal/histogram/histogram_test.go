package histogram

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestBucketsEndAtTheirBounds: bucket i holds what is above 2^((i-1)/8) s and not above 2^(i/8) s.
func TestBucketsEndAtTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(int64(ZeroThreshold)+1, int64(250*time.Second)).Draw(t, "d"))
		var h Histogram
		h.Observe(d)
		c := h.Counts()
		if c.Total() != 1 || len(c.Buckets) != 1 || c.Sum != d {
			t.Fatalf("%+v", c)
		}
		low, high := math.Exp2(float64(c.First-1)/8), math.Exp2(float64(c.First)/8)
		if s := d.Seconds(); s <= low*(1-1e-12) || s > high*(1+1e-12) {
			t.Fatalf("%s is in (%g, %g]", d, low, high)
		}
	})
}

func TestEnds(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, time.Microsecond, ZeroThreshold, time.Second, time.Hour} {
		h.Observe(d)
	}
	c := h.Counts()
	if c.Zero != 3 || c.at(0) != 1 || c.at(64) != 1 || c.Total() != 5 {
		t.Errorf("%+v", c)
	}
}

// TestQuantiles are as far from the exact ones as a bucket is wide.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Int64Range(int64(20*time.Microsecond), int64(100*time.Second)), 1, 200).Draw(t, "durations")
		var h Histogram
		for _, d := range all {
			h.Observe(time.Duration(d))
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
			exact := float64(all[max(0, int(math.Ceil(q*float64(len(all))))-1)])
			if got := float64(h.Counts().Quantile(q)); got < exact/1.1 || got > exact*1.1 {
				t.Fatalf("quantile %g is %g, exactly %g", q, got, exact)
			}
		}
	})
}

func TestAddAndSince(t *testing.T) {
	draw := func(t *rapid.T, name string) (c Counts) {
		var h Histogram
		for _, d := range rapid.SliceOfN(rapid.Int64Range(0, int64(300*time.Second)), 0, 20).Draw(t, name) {
			h.Observe(time.Duration(d))
		}
		return h.Counts()
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		both := a.Add(b)
		if both.Total() != a.Total()+b.Total() || both.Sum != a.Sum+b.Sum {
			t.Fatalf("%+v", both)
		}
		since := both.Since(a)
		if since.Total() != b.Total() || since.Sum != b.Sum {
			t.Fatalf("%+v", since)
		}
		for i := -200; i < 100; i++ {
			if since.at(i) != b.at(i) {
				t.Fatal(cmp.Diff(b, since))
			}
		}
	})
	if q := (Counts{}).Quantile(0.5); q != 0 {
		t.Errorf("nothing takes %s", q)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Observe(time.Duration(i%1000) * time.Microsecond)
	}
}
