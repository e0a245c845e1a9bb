package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

const (
	eventsAtOnce  = 100       // in one commit
	cleanEvery    = time.Hour // history is cut to its limits
	changesKept   = 10_000    // of the store's feed, whatever their age
	deletesAtOnce = 500       // in one commit
)

// event has an event recorded. When far too many come, some are dropped.
func (c *Controller) event(e maru.Event) {
	select {
	case c.events <- e:
	default:
		c.log.Warn("an event was dropped", "type", e.Type, "app", e.Scope.String(), "message", e.Message)
	}
}

// recordEvents stores events that are not part of a decision.
func (c *Controller) recordEvents(ctx context.Context) error {
	for {
		var batch []maru.Change
		select {
		case e := <-c.events:
			batch = append(batch, recorded(e))
		case <-ctx.Done():
			return nil
		}
		for more := true; more && len(batch) < eventsAtOnce; {
			select {
			case e := <-c.events:
				batch = append(batch, recorded(e))
			default:
				more = false
			}
		}
		if _, err := c.store.Commit(ctx, unique(batch)...); err != nil && ctx.Err() == nil {
			c.log.Warn("events could not be stored", "count", len(batch), "error", err)
		}
	}
}

func recorded(e maru.Event) maru.Change {
	return maru.Change{Key: EventKey(e), Data: maru.Raw(e), Expect: maru.Any}
}

// clean forgets old events and changes from time to time.
func (c *Controller) clean(ctx context.Context) error {
	for {
		if err := c.cleanNow(ctx, time.Now()); err != nil && ctx.Err() == nil {
			c.log.Warn("old events could not be forgotten", "error", err)
		}
		if !pause(ctx, cleanEvery) {
			return nil
		}
	}
}

func (c *Controller) cleanNow(ctx context.Context, now time.Time) error {
	all, _, err := c.store.List(ctx, KindEvent, "")
	if err != nil {
		return err
	}
	times := make(map[maru.Key]string, len(all))
	for _, o := range all {
		_, rest, _ := scopeOf(o.Key.Name)
		times[o.Key] = rest
	}
	slices.SortFunc(all, func(a, b maru.Object) int { return strings.Compare(times[a.Key], times[b.Key]) })
	oldest := now.Add(-c.cfg.EventAge).UTC().Format(eventTime)
	surplus := len(all) - c.cfg.EventCount
	var old []maru.Change
	for k, o := range all {
		if k < surplus || times[o.Key] < oldest {
			old = append(old, maru.Change{Key: o.Key, Expect: maru.Any})
		}
	}
	for part := range slices.Chunk(old, deletesAtOnce) {
		if _, err := c.store.Commit(ctx, part...); err != nil {
			return err
		}
	}
	if err := c.cleanDeliveries(ctx, now.Add(-c.cfg.DeliveryAge)); err != nil {
		return err
	}
	return c.store.Compact(ctx, now.Add(-c.cfg.ChangeAge), changesKept)
}
