package limit

import (
	"math"
	"slices"
	"time"
)

// Window is what was seen in a short time.
type Window struct {
	Took     time.Duration // its length
	Good     int           // good answers
	Busy     time.Duration // of the requests that had them, together
	Full     bool          // the bound was reached
	InFlight int           // at its end
}

const (
	// windowTook and windowGood are what a window has at least, so that its averages are some; and it is so
	// many times as long as a request, since those that are answered first are those that take least.
	windowTook  = 100 * time.Millisecond
	windowGood  = 20
	windowTimes = 4
	// rates is how many windows in which the bound was reached are looked back on.
	rates = 10
	// known is how long, and for how many windows at least, the latency without waiting is taken to be as it was.
	known        = 5 * time.Second
	knownWindows = 40
	// calm is how many times the latency without waiting still says that nothing waits.
	calm = 1.3
	// congested is how many times the latency without waiting shows that a bound is too high to be reached.
	congested = 3
	// settled is how much less a latency must be for it to be worth to look for a lower one.
	settled = 0.9
	least   = 2
	// gap is how many times as long as it must be a window is when there is little to do.
	gap = 4
	// mostDrains is how many windows it may take to let go what waits.
	mostDrains = 20
)

// adaptive finds the bound, window by window. It is pure: time is in the windows.
type adaptive struct {
	rate   []float64 // answers a second, of the last windows in which the bound was reached
	alone  float64   // seconds for a request when nothing waits; 0: not known
	age    time.Duration
	doubt  bool // alone is likely to be too high
	look   look
	drains int
	bound  int
}

// look is where the look for the latency without waiting is.
type look int

const (
	none     look = iota
	draining      // what waits is let go
	drained       // those that waited are answered
	watching
)

// next takes a window in. From then on bound is another one.
func (a *adaptive) next(w Window) {
	x, r := float64(w.Good)/w.Took.Seconds(), w.Busy.Seconds()/float64(w.Good)
	a.age += w.Took
	switch {
	case a.look != none && w.Took > gap*a.took():
		a.look, a.bound = none, a.high() // there was less to do meanwhile
	case a.look != none:
		a.looking(w, r)
	case a.alone == 0 && w.Took.Seconds() < windowTimes*r:
		a.age = -time.Duration(windowTimes * r * float64(time.Second)) // the next one is long enough
	case !w.Full && (a.alone == 0 || r < congested*a.alone):
		a.clear(r)
	default:
		a.full(x, r)
	}
}

// took is how long the next window is at least.
func (a *adaptive) took() time.Duration {
	if a.age < 0 {
		return max(windowTook, -a.age)
	}
	return max(windowTook, time.Duration(windowTimes*a.alone*float64(time.Second)))
}

// clear takes in the latency of a window in which nothing waits. A lower one counts for more.
func (a *adaptive) clear(r float64) {
	a.age = 0
	switch {
	case a.alone == 0:
		a.alone = r
	case r < a.alone:
		a.alone += (r - a.alone) * 0.3
	default:
		a.alone += (r - a.alone) * 0.05
	}
}

// full takes in a window in which there was more to do than could be done.
func (a *adaptive) full(x, r float64) {
	if a.rate = append(a.rate, x); len(a.rate) > rates {
		a.rate = slices.Delete(a.rate, 0, 1)
	}
	if a.alone == 0 {
		a.alone, a.doubt = r, true
	}
	switch {
	case !a.doubt && r < calm*a.alone:
		a.bound = max(2*a.bound, a.high())
		a.age = 0
	case !a.doubt && a.age < max(known, knownWindows*a.took()):
		a.bound = a.high()
	default:
		a.look, a.drains, a.bound = draining, 0, a.low()
	}
}

func (a *adaptive) looking(w Window, r float64) {
	switch a.look {
	case draining:
		if a.drains++; w.InFlight <= a.bound || a.drains == mostDrains {
			a.look = drained
		}
	case drained:
		a.look = watching
	default:
		before := a.alone
		a.look, a.alone, a.age = none, r, 0
		a.doubt = r < settled*before // there may be more to it
		a.bound = a.high()
	}
}

// work is how many requests are at work at once.
func (a *adaptive) work() float64 { return slices.Max(a.rate) * a.alone }

// low lets less through than can be done.
func (a *adaptive) low() int { return max(least, int(math.Ceil(0.8*a.work()))) }

// high is a quarter more than are at work, so that a service that can do more shows it, and what chance
// adds to a number like that.
func (a *adaptive) high() int {
	work := a.work()
	return max(least, int(math.Ceil(1.25*work+2*math.Sqrt(work))))
}
