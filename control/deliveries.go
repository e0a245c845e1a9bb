package control

import (
	"context"
	"slices"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// delivered keeps what becomes of a rollout, in the same commit as its first and its last change.
func delivered(state plan.AppState, r maru.Rollout) maru.Change {
	var environments map[string]maru.EnvironmentPolicy
	if state.Spec != nil {
		environments = state.Spec.Environments
	}
	return maru.Change{Key: DeliveryKey(r.Scope, r.Number), Data: maru.Raw(plan.DeliveryOf(r, environments)), Expect: maru.Any}
}

// cleanDeliveries forgets those that ended before a time.
func (c *Controller) cleanDeliveries(ctx context.Context, before time.Time) error {
	objects, _, err := c.store.List(ctx, KindDelivery, "")
	if err != nil {
		return err
	}
	var old []maru.Change
	for _, o := range objects {
		d, err := Decode[maru.Delivery](o.Key, o.Data)
		if err != nil {
			return err
		}
		if !d.Ended.IsZero() && d.Ended.Before(before) {
			old = append(old, maru.Change{Key: o.Key, Expect: maru.Any})
		}
	}
	for part := range slices.Chunk(old, deletesAtOnce) {
		if _, err := c.store.Commit(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}

// Dora gives the DORA figures of each app and environment of a scope, whose empty parts match all, sorted.
// Environments of previews are left out, unless the scope names them.
func (c *Controller) Dora(ctx context.Context, scope maru.Scope, q maru.DoraQuestion) ([]maru.Dora, error) {
	objects, _, err := c.store.List(ctx, KindDelivery, "")
	if err != nil {
		return nil, err
	}
	var out []maru.Dora
	var one []maru.Delivery
	flush := func() {
		if len(one) > 0 && (scope.Environment != "" || !one[len(one)-1].Preview) {
			out = append(out, plan.Dora(one, q))
		}
		one = nil
	}
	for _, o := range objects { // sorted by scope and number
		of, _, ok := scopeOf(o.Name)
		if !ok || !scope.Covers(of) {
			continue
		}
		d, err := Decode[maru.Delivery](o.Key, o.Data)
		if err != nil {
			return nil, err
		}
		if len(one) > 0 && one[0].Scope != d.Scope {
			flush()
		}
		one = append(one, d)
	}
	flush()
	return out, nil
}
