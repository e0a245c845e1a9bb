package notify

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// deliver sends what is in the outbox until ctx ends. Each receiver is told by one goroutine at a time, so that
// one that takes long keeps nobody else waiting.
func (n *Notifier) deliver(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	var mu sync.Mutex
	busy := map[string]bool{}
	for {
		wait, due, err := n.due(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			n.log.Warn("the outbox can't be read; trying again", "error", err)
			wait = time.Second
		}
		mu.Lock()
		for _, name := range slices.Sorted(maps.Keys(due)) {
			if busy[name] || len(busy) >= n.cfg.Parallel {
				continue
			}
			busy[name] = true
			workers.Go(func() {
				n.tell(ctx, name, due[name])
				mu.Lock()
				delete(busy, name)
				mu.Unlock()
				n.more()
			})
		}
		mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due gives what is to be sent now, by receiver and sorted, and how long nothing else will be. What was given up
// long ago is forgotten, and so is what has no receiver any more.
func (n *Notifier) due(ctx context.Context, now time.Time) (wait time.Duration, due map[string][]string, err error) {
	wait = time.Hour
	messages, err := list[message](ctx, n.store, kindMessage, "")
	if err != nil || len(messages) == 0 {
		return wait, nil, err
	}
	receivers, err := list[receiver](ctx, n.store, kindReceiver, "")
	if err != nil {
		return wait, nil, err
	}
	due = map[string][]string{}
	waiting, paused := map[string]int{}, map[string]time.Time{}
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(messages))) { // the newest of each first
		m, of := messages[key], receiverOf(key)
		_, known := receivers[of]
		switch {
		case !known, !m.GivenUp.IsZero() && now.Sub(m.GivenUp) > n.cfg.Shown:
			if err := n.put(ctx, key, nil); err != nil {
				return wait, nil, err
			}
			continue
		case !m.GivenUp.IsZero():
			continue
		}
		if waiting[of]++; waiting[of] > n.cfg.Waiting {
			m.GivenUp, m.Error = now.UTC(), "too many wait to be sent"
			if err := n.put(ctx, key, &m); err != nil {
				return wait, nil, err
			}
			continue
		}
		if m.Alone && m.Next.After(now) {
			wait = min(wait, m.Next.Sub(now))
			continue
		}
		if !m.Alone && m.Next.After(paused[of]) {
			paused[of] = m.Next
		}
		due[of] = append([]string{key}, due[of]...)
	}
	for of, next := range paused {
		if next.After(now) { // one of them failed: the others would, too
			wait = min(wait, next.Sub(now))
			delete(due, of)
		}
	}
	return wait, due, nil
}

// put stores a message as it is now; nil: it is done with.
func (n *Notifier) put(ctx context.Context, name string, m *message) error {
	change := maru.Change{Key: maru.Key{Kind: kindMessage, Name: name}, Expect: maru.Any}
	if m != nil {
		o, err := n.store.Get(ctx, change.Key)
		if err != nil { // such as NotFound: its receiver was removed meanwhile
			return ignore(err, maru.NotFound)
		}
		change.Data, change.Expect = maru.Raw(*m), o.Revision
	}
	_, err := n.store.Commit(ctx, change)
	return ignore(err, maru.Conflict)
}

func ignore(err error, kind maru.Kind) error {
	if maru.KindOf(err) == kind {
		return nil
	}
	return err
}

// tell sends a receiver one message after the other, until one fails that others would follow.
func (n *Notifier) tell(ctx context.Context, name string, keys []string) {
	r, target, err := n.get(ctx, name)
	if maru.KindOf(err) == maru.NotFound {
		return
	}
	for _, key := range keys {
		o, failed := n.store.Get(ctx, maru.Key{Kind: kindMessage, Name: key})
		if failed != nil {
			continue
		}
		m, failed := decode[message](o)
		if failed != nil {
			n.log.Warn("a notification can't be read", "notification", key, "error", failed)
			continue
		}
		if err == nil {
			err = n.send(ctx, r.Receiver, target, m)
		}
		if ctx.Err() != nil {
			return // the next process sends it again
		}
		if err == nil {
			if failed := n.put(ctx, key, nil); failed != nil {
				n.log.Warn("that a notification was sent can't be stored: it is sent again", "receiver", name, "error", failed)
				return
			}
			continue
		}
		next := n.failed(m, err, time.Now().UTC())
		if failed := n.put(ctx, key, next); failed != nil {
			n.log.Warn("that a notification was not sent can't be stored", "receiver", name, "error", failed)
		}
		n.log.Info("a receiver could not be told", "receiver", name, "error", plain(err))
		if !next.Alone {
			return
		}
		err = nil
	}
}

// failed notes that a message could not be sent, and when to try again: later each time, and not all at once.
func (n *Notifier) failed(m message, err error, now time.Time) *message {
	m.Attempts++
	m.Error = plain(err)
	delay := n.cfg.LastTry
	if m.Attempts < 20 {
		delay = min(n.cfg.FirstTry<<(m.Attempts-1), n.cfg.LastTry)
	}
	delay = delay/2 + rand.N(delay/2+1)
	var r refusal
	if errors.As(err, &r) {
		delay = max(delay, min(r.after, n.cfg.LastTry))
	}
	m.Alone = r.status/100 == 4 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooEarly && r.status != http.StatusTooManyRequests
	m.Next = now.Add(delay)
	if now.Sub(m.Created) >= n.cfg.GiveUp || r.status == http.StatusGone {
		m.GivenUp, m.Next = now, time.Time{}
	}
	return &m
}
