package forward

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

// disturb does what the service's faults say to the request. It tells whether that was all, and no endpoint is
// to be asked any more.
func (x *exchange) disturb(faults []maru.Fault) (done bool) {
	for i := range faults {
		f := &faults[i]
		if !x.concerns(f) || f.Percent > 0 && rand.Float64()*100 >= f.Percent {
			continue
		}
		if f.Delay > 0 && !x.sleep(f.Delay) {
			return true
		}
		switch {
		case f.Status > 0:
			x.fail(Failure{
				Status: f.Status, Title: http.StatusText(f.Status), Reason: fmt.Sprintf("fault: %d instead of the service's answer", f.Status),
				What: "This answer was made by a fault that is put in on purpose.", Do: "See x-maru.faults of the service.",
			})
			return true
		case f.Cut:
			x.entry.Status, x.entry.Error = http.StatusBadGateway, "fault: cut"
			x.cut = true
			return true
		case f.Corrupt:
			x.corrupt = true
		}
	}
	return false
}

// concerns tells whether a fault is for requests like this one.
func (x *exchange) concerns(f *maru.Fault) bool {
	caller := table.Gateway
	switch c := x.call.Caller; {
	case c != nil && c.Service.ID.Scope != x.call.Service.ID.Scope:
		caller = "" // another app's
	case c != nil:
		caller = c.Service.ID.Service
	}
	return (len(f.From) == 0 || slices.Contains(f.From, caller)) && table.Matches(f.Rule, x.r.Method, x.r.Path)
}

// sleep waits, and answers if the exchange ends meanwhile.
func (x *exchange) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		x.waited = true
		return true
	case <-x.context().Done():
		x.fail(x.failure(x.ended()))
		return false
	}
}

// damage changes a piece of the answer's body.
func damage(piece []byte) { piece[rand.IntN(len(piece))] ^= 1 << rand.IntN(8) }
