package control_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/control"
)

func canary(s *maru.Service) {
	s.Update = maru.Update{Strategy: maru.Canary, Shift: &maru.Shift{
		Judge: &maru.JudgeLimits{ErrorMargin: 0.1, LatencyMargin: 5},
		Steps: []maru.ShiftStep{{Weight: 5, For: 10 * time.Second, Requests: 10}, {Weight: 50, For: 10 * time.Second}},
	}}
}

// requests are what a proxy tells of so many requests, of which the new release fails some.
func (w *world) requests(rng *rand.Rand, n int, fails float64) {
	t := w.plane.of("web")
	if t.Split == nil {
		return
	}
	e := maru.Evidence{Service: shop.Service("web"), Old: t.Split.Old, New: t.Split.New}
	for range n {
		r := maru.EvidenceRecord{At: time.Now(), Weight: float64(t.Weight()) / 100, New: rng.IntN(100) < t.Weight()}
		if r.Failed = r.New && rng.Float64() < fails; !r.Failed {
			r.Latency = time.Duration(50+rng.IntN(100)) * time.Millisecond
		}
		e.Records = append(e.Records, r)
	}
	w.Evidence(e)
}

func TestJudgedWorse(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		rng := rand.New(rand.NewPCG(1, 2))
		w.deploy(app(map[string]maru.Service{"web": web("web:1", canary)}))
		after(5 * time.Second)
		w.deploy(app(map[string]maru.Service{"web": web("web:2", canary)}))
		after(time.Second)
		if s := w.plane.of("web"); s.Split == nil || s.Weight() != 5 || !s.Split.Judged {
			t.Fatalf("traffic %+v", s)
		}
		for k := 0; w.plane.of("web").Split != nil; k++ {
			if k == 100 {
				t.Fatalf("it is not taken back: %+v", w.status().Rollout)
			}
			w.requests(rng, 5, 0.5)
			after(25 * time.Millisecond)
		}
		after(5 * time.Second)
		w.wantPhase(maru.RolledBackPhase)
		r := w.status().Rollout
		if v := r.Services["web"].Verdict; v == nil || v.Outcome != maru.JudgedRegressed || !strings.Contains(r.Reason, "fails more often than the old release") {
			t.Errorf("%+v, verdict %+v", r, v)
		}
		w.Evidence(maru.Evidence{Service: shop.Service("web"), Old: 1, New: 2, Records: []maru.EvidenceRecord{{New: true, Weight: 0.5}}})
		w.Evidence(maru.Evidence{Service: shop.Service("nothing"), Old: 1, New: 2})
	})
}

// TestOnlyTheBaselineIsComparedWith: what the rest of the old release does says nothing where there is a fresh baseline.
func TestOnlyTheBaselineIsComparedWith(t *testing.T) {
	fresh := func(s *maru.Service) { canary(s); s.Update.Shift.Baseline = true }
	inBubble(t, control.Config{}, slow, func(w *world) {
		rng := rand.New(rand.NewPCG(7, 8))
		w.deploy(app(map[string]maru.Service{"web": web("web:1", fresh)}))
		after(5 * time.Second)
		w.deploy(app(map[string]maru.Service{"web": web("web:2", fresh)}))
		after(15 * time.Second)
		tell := func(of func(fresh bool) maru.EvidenceRecord) {
			s := w.plane.of("web")
			if s.Split == nil {
				return
			}
			e := maru.Evidence{Service: shop.Service("web"), Old: s.Split.Old, New: s.Split.New}
			for range 20 {
				r := of(rng.IntN(2) == 1)
				r.At, r.Weight = time.Now(), float64(s.Weight())/100
				e.Records = append(e.Records, r)
			}
			w.Evidence(e)
			after(25 * time.Millisecond)
		}
		for range 20 { // not of the baseline: a release that fails would be taken back
			tell(func(fresh bool) maru.EvidenceRecord {
				return maru.EvidenceRecord{New: fresh, Failed: fresh, Latency: time.Millisecond}
			})
		}
		if v := w.status().Rollout.Services["web"].Verdict; w.plane.of("web").Split == nil || v != nil && v.Requests > 0 {
			t.Fatalf("%+v", w.status().Rollout)
		}
		for k := 0; w.plane.of("web").Split != nil; k++ { // both are cold alike, and each has as much as the other
			if k == 4000 {
				t.Fatalf("it does not go on: %+v", w.status().Rollout.Services["web"])
			}
			tell(func(fresh bool) maru.EvidenceRecord {
				return maru.EvidenceRecord{New: fresh, Baseline: true, Latency: time.Duration(500+rng.IntN(100)) * time.Millisecond}
			})
		}
		after(5 * time.Second)
		w.wantPhase(maru.Succeeded)
	})
}

// TestReplaysAreEvidence: what is replayed counts at the share that the release has, with the chance of a coin.
func TestReplaysAreEvidence(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		rng := rand.New(rand.NewPCG(5, 6))
		w.deploy(app(map[string]maru.Service{"web": web("web:1", canary)}))
		after(5 * time.Second)
		w.deploy(app(map[string]maru.Service{"web": web("web:2", canary)}))
		after(time.Second)
		replay := func(fails bool) {
			s := w.plane.of("web")
			if s.Split == nil {
				return
			}
			r := maru.EvidenceRecord{At: time.Now(), Weight: float64(s.Weight()) / 100, New: rng.IntN(2) == 1, Replayed: true}
			if r.Failed = fails && r.New; !r.Failed {
				r.Latency = 50 * time.Millisecond
			}
			w.Evidence(maru.Evidence{Service: shop.Service("web"), Old: s.Split.Old, New: s.Split.New, Records: []maru.EvidenceRecord{r}})
			after(100 * time.Millisecond)
		}
		for k := 0; w.status().Rollout.Services["web"].Step < 2; k++ {
			if k == 1000 {
				t.Fatalf("it does not go on: %+v", w.status().Rollout.Services["web"])
			}
			replay(false)
		}
		began := time.Now()
		for w.plane.of("web").Split != nil {
			if time.Since(began) > 30*time.Second {
				t.Fatalf("it is not taken back: %+v", w.status().Rollout)
			}
			replay(true)
		}
	})
}

// TestJudgedAsGood has the server die in the middle, and the judge's evidence with it.
func TestJudgedAsGood(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		rng := rand.New(rand.NewPCG(3, 4))
		w.deploy(app(map[string]maru.Service{"web": web("web:1", canary)}))
		after(5 * time.Second)
		w.deploy(app(map[string]maru.Service{"web": web("web:2", canary)}))
		after(time.Second)
		step := func() int { return w.status().Rollout.Services["web"].Step }
		for k := 0; step() < 2; k++ {
			if k == 200 {
				t.Fatalf("%+v", w.status().Rollout)
			}
			w.requests(rng, 10, 0)
			after(100 * time.Millisecond)
		}
		w.stop()
		w.start()
		after(time.Second)
		if step() != 2 || w.plane.of("web").Weight() != 50 {
			t.Fatalf("after a restart: %+v", w.status().Rollout)
		}
		for k := 0; w.status().Rollout.Phase != maru.Succeeded; k++ {
			if k == 2000 {
				t.Fatalf("%+v: %+v", w.status().Rollout, w.status().Rollout.Services["web"].Verdict)
			}
			w.requests(rng, 10, 0)
			after(100 * time.Millisecond)
		}
		if v := w.status().Rollout.Services["web"].Verdict; v == nil || v.Outcome != maru.JudgedEquivalent {
			t.Errorf("verdict %+v", v)
		}
	})
}

func TestSteering(t *testing.T) {
	inBubble(t, control.Config{}, slow, func(w *world) {
		w.deploy(app(map[string]maru.Service{"web": web("web:1", canary)}))
		after(5 * time.Second)
		if _, err := w.Promote(ctx, shop, nil, false, "ann"); maru.KindOf(err) != maru.Conflict {
			t.Errorf("promote of nothing: %v", err)
		}
		w.deploy(app(map[string]maru.Service{"web": web("web:2", canary)}))
		after(time.Second)
		if r, err := w.Promote(ctx, shop, []string{"web"}, false, "ann"); err != nil || r.Number != 2 {
			t.Errorf("%+v: %v", r, err)
		}
		after(time.Second)
		if n := w.plane.of("web").Weight(); n != 50 {
			t.Errorf("%d%% after promote", n)
		}
		if r, err := w.Pause(ctx, shop, true, "ann"); err != nil || !r.Paused {
			t.Errorf("%+v: %v", r, err)
		}
		if _, err := w.Abort(ctx, shop, "ann"); err != nil {
			t.Error(err)
		}
		if s := w.plane.of("web"); s.Split != nil {
			after(0)
			if s = w.plane.of("web"); s.Split != nil {
				t.Errorf("traffic after abort: %+v", s)
			}
		}
		after(5 * time.Second)
		w.wantPhase(maru.RolledBackPhase)
		if n := w.plane.ready("web"); n != 3 || len(w.instances()) != 3 {
			t.Errorf("%d serve of %d", n, len(w.instances()))
		}
	})
}
