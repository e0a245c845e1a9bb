package plan

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// TakenBack tells from all deliveries of an app in an environment what it runs, as far as that is known, and which
// deployments from Git were taken back there and not brought again since: by their own rollout after users had
// something of them, or by a rollback that went behind them, from its beginning on. Oldest first.
func TakenBack(deliveries []maru.Delivery) (running *maru.Delivery, taken []maru.TakenBack) {
	deliveries = slices.Clone(deliveries)
	slices.SortFunc(deliveries, func(a, b maru.Delivery) int { return a.Number - b.Number })
	after := map[int]*maru.Delivery{} // what runs after each
	take := func(d *maru.Delivery, t maru.TakenBack) {
		t.Origin, t.Rollout, t.Current = *d.Origin, d.Number, true
		taken = append(slices.DeleteFunc(taken, func(old maru.TakenBack) bool { return old.Rollout == d.Number }), t)
	}
	for k := range deliveries {
		d := &deliveries[k]
		switch d.Cause {
		case CauseDeploy:
			switch {
			case d.Phase == maru.RolledBackPhase && !d.Exposed.IsZero() && d.Origin != nil:
				take(d, maru.TakenBack{At: d.Ended, Reason: d.Reason})
			case d.Phase == maru.Succeeded, d.Phase == maru.Failed && !d.Exposed.IsZero(), d.Phase == maru.Superseded && !d.Served.IsZero():
				running = d
				taken = slices.DeleteFunc(taken, func(t maru.TakenBack) bool { return d.Origin != nil && sameFiles(t.Origin, *d.Origin) })
				for i := range taken {
					taken[i].Current = taken[i].Current && d.Phase == maru.Failed
				}
			}
		case CauseRollback:
			if d.Phase == maru.RolledBackPhase || d.Phase == maru.Failed {
				break
			}
			running = after[d.Of]
			for i := range k {
				old := &deliveries[i]
				reached := !old.Exposed.IsZero() && (old.Phase == maru.Succeeded || old.Phase == maru.Superseded || old.Phase == maru.Failed)
				if old.Cause == CauseDeploy && old.Origin != nil && old.Number > d.Of && reached && (running == nil || running.Origin == nil || !sameFiles(*old.Origin, *running.Origin)) {
					take(old, maru.TakenBack{At: d.Started, By: d.By, Reason: "rolled back to rollout " + maru.Itoa(d.Of)})
				}
			}
		case CauseRemove:
			if d.Phase == maru.Succeeded {
				running = nil
			}
		}
		after[d.Number] = running
	}
	return running, taken
}

// sameFiles tells whether two commits have the same files.
func sameFiles(a, b maru.Origin) bool {
	return a.Commit == b.Commit || a.Tree != "" && a.Tree == b.Tree
}

// TakenBackText says in one line what was taken back, where, by whom and why.
func TakenBackText(t maru.TakenBack, environment string) string {
	text := "taken back in " + environment
	if t.By != "" {
		text += " by " + t.By
	}
	text += " (rollout " + maru.Itoa(t.Rollout) + ")"
	reason := []rune(strings.Join(strings.Fields(t.Reason), " "))
	if len(reason) > longestReason {
		reason = append(reason[:longestReason], '…')
	}
	return text + after(": ", string(reason))
}

const longestReason = 300
