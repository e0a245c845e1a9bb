package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"shop/internal/order"
	"shop/internal/service"
	"shop/internal/storeapi"
)

// bench is where orders are worked on.
type bench struct {
	log      *slog.Logger
	store    storeapi.Client
	payments string
	key      string
	pace     time.Duration // of packing and shipping: there are people in it
}

// lease is how long an order may take before somebody else tries.
const lease = 30 * time.Second

// one waits for an order and brings it as far as it goes.
func (b *bench) one(ctx context.Context) error {
	task, err := b.store.Take(ctx, order.Queue, lease, 10*time.Second)
	if err != nil || task.Key == "" {
		return err
	}
	// What was begun is finished, also when the worker is told to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease)
	defer cancel()
	id := strings.TrimPrefix(task.Key, order.Queue)
	for {
		e, err := b.store.Get(ctx, order.Prefix+id)
		if err != nil {
			return err
		}
		var o order.Order
		if err := json.Unmarshal(e.Value, &o); err != nil {
			return err
		}
		if o.State.Done() {
			return b.store.Commit(ctx, storeapi.Delete(task.Key))
		}
		if o, err = b.advance(ctx, o); err != nil {
			return err
		}
		o.Changed = time.Now().UTC()
		ops := []storeapi.Op{storeapi.Put(e.Key, o).At(e.Revision)}
		if o.State.Done() {
			ops = append(ops, storeapi.Delete(task.Key))
		}
		if err := b.store.Commit(ctx, ops...); err != nil {
			return err
		}
		b.log.Info("order", "id", o.ID, "state", o.State, "reason", o.Reason)
		if o.State.Done() {
			return nil
		}
	}
}

// advance does the next thing to an order.
func (b *bench) advance(ctx context.Context, o order.Order) (order.Order, error) {
	switch o.State {
	case order.Placed:
		o.State = order.Paying
	case order.Paying:
		approved, reason, err := b.pay(ctx, o)
		if err != nil {
			return o, err
		}
		o.State, o.Reason = order.Packing, ""
		if !approved {
			o.State, o.Reason = order.Declined, reason
		}
	default:
		select {
		case <-time.After(b.pace):
		case <-ctx.Done():
			return o, ctx.Err()
		}
		o.State = order.Shipped
	}
	return o, nil
}

// attempts is how often the bank is asked while it is busy.
const attempts = 5

func (b *bench) pay(ctx context.Context, o order.Order) (approved bool, reason string, err error) {
	headers := http.Header{"Authorization": {"Bearer " + b.key}}
	body := map[string]any{"order": o.ID, "amount": o.Total}
	for try := range attempts {
		var receipt struct {
			Approved bool
			Reason   string
		}
		_, err = service.Call(ctx, http.MethodPost, b.payments+"/charge", headers, body, &receipt)
		if err == nil {
			return receipt.Approved, receipt.Reason, nil
		}
		if service.StatusOf(err) < 500 {
			return false, "", err
		}
		b.log.Info("the bank is asked again", "id", o.ID, "try", try+1, "error", err.Error())
		select {
		case <-time.After(time.Duration(try+1) * b.pace / 3):
		case <-ctx.Done():
			return false, "", ctx.Err()
		}
	}
	return false, "", err
}
