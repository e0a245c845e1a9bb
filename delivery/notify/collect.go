package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

// atOnce is how many events, or messages, go into one commit.
const atOnce = 100

// collect leads events to the outbox until ctx ends: those that came while nobody looked, then those to come.
func (n *Notifier) collect(ctx context.Context) error {
	for ctx.Err() == nil {
		revision, err := n.catchUp(ctx)
		if err == nil {
			err = n.follow(ctx, revision)
		}
		if err != nil && ctx.Err() == nil && maru.KindOf(err) != maru.Exhausted {
			n.log.Warn("what receivers are to be told of can't be collected; trying again", "error", err)
		}
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	return nil
}

// catchUp leads what is behind the cursor to the outbox, and gives the revision up to which all is.
func (n *Notifier) catchUp(ctx context.Context) (maru.Revision, error) {
	var cursor maru.Revision
	o, err := n.store.Get(ctx, cursorKey)
	switch {
	case maru.KindOf(err) == maru.NotFound:
	case err != nil:
		return 0, err
	default:
		if cursor, err = decode[maru.Revision](o); err != nil {
			return 0, err
		}
	}
	objects, revision, err := n.store.List(ctx, kindEvent, "")
	if err != nil || cursor > revision { // the state is another one: what it has was told by whoever had it
		return revision, err
	}
	objects = slices.DeleteFunc(objects, func(o maru.Object) bool { return o.Revision <= cursor })
	slices.SortFunc(objects, func(a, b maru.Object) int { return int(a.Revision - b.Revision) })
	for part := range slices.Chunk(objects, atOnce) {
		if err := n.enqueue(ctx, part); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

func (n *Notifier) follow(ctx context.Context, from maru.Revision) error {
	for change, err := range n.store.Watch(ctx, from) {
		if err != nil {
			return err
		}
		if change.Key.Kind != kindEvent || change.Data == nil {
			continue
		}
		if err := n.enqueue(ctx, []maru.Object{{Key: change.Key, Revision: change.Revision, Data: change.Data}}); err != nil {
			return err
		}
	}
	return nil
}

// enqueue puts events into the outbox for each receiver that wants them, and moves the cursor behind them, in one
// commit. What nobody wants moves no cursor: it is looked at again by the next process.
func (n *Notifier) enqueue(ctx context.Context, events []maru.Object) error {
	receivers, err := list[receiver](ctx, n.store, kindReceiver, "")
	if err != nil || len(receivers) == 0 {
		return err
	}
	var changes []maru.Change
	for _, o := range events {
		e, err := decode[maru.Event](o)
		if err != nil {
			n.log.Warn("an event can't be read", "event", o.Name, "error", err)
			continue
		}
		topic := topicOf(e, func() maru.Delivery { return n.rollout(ctx, e) })
		for _, r := range receivers {
			if wants(r.Receiver, e, topic) {
				m := message{Name: o.Name, Event: e, Created: time.Now().UTC()}
				m.Event.Message, _, _ = strings.Cut(e.Message, plan.LastWords) // they may be secret
				changes = append(changes, maru.Change{Key: messageKey(r.Receiver, o.Revision), Data: maru.Raw(m), Expect: maru.Any})
			}
		}
	}
	if len(changes) == 0 {
		return nil
	}
	changes = append(changes, maru.Change{Key: cursorKey, Data: maru.Raw(events[len(events)-1].Revision), Expect: maru.Any})
	if _, err := n.store.Commit(ctx, changes...); err != nil {
		return err
	}
	n.more()
	return nil
}

// rollout gives what became of the rollout of an event, as far as that is known.
func (n *Notifier) rollout(ctx context.Context, e maru.Event) maru.Delivery {
	o, err := n.store.Get(ctx, maru.Key{Kind: kindDelivery, Name: fmt.Sprintf("%s/%09d", e.Scope, e.Rollout)})
	if err != nil {
		return maru.Delivery{}
	}
	d, err := decode[maru.Delivery](o)
	if err != nil {
		n.log.Warn("what became of a rollout can't be read", "object", o.Name, "error", err)
	}
	return d
}
