package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"shop/internal/order"
	"shop/internal/service"
	"shop/internal/storeapi"
)

// steps bring the data from one form to the next: the first from nothing to form 1. Each may be tried
// again after it failed half-way. New ones come at the end, and data once moved is never moved back: so
// a step must leave what the release before it can live with.
var steps = []func(ctx context.Context, store storeapi.Client) error{
	welcome,
}

// migrate does the steps that were not done yet, and tells which form the data was in, and is in now.
func migrate(ctx context.Context, store storeapi.Client) (from, to int, err error) {
	form, revision, err := readForm(ctx, store)
	from = form
	for err == nil && form < len(steps) {
		if err = steps[form](ctx, store); err != nil {
			return from, form, fmt.Errorf("step %d: %w", form+1, err)
		}
		err = store.Commit(ctx, storeapi.Put(order.Schema, form+1).At(revision))
		if err == nil || service.StatusOf(err) == http.StatusConflict { // then somebody else did the same step
			form, revision, err = readForm(ctx, store)
		}
	}
	return from, form, err
}

func readForm(ctx context.Context, store storeapi.Client) (form int, revision int64, err error) {
	e, err := store.Get(ctx, order.Schema)
	if err != nil {
		if service.StatusOf(err) == http.StatusNotFound {
			return 0, 0, nil
		}
		return 0, 0, err
	}
	return form, e.Revision, json.Unmarshal(e.Value, &form)
}

// welcome places the shop's first order, which the house itself makes.
func welcome(ctx context.Context, store storeapi.Client) error {
	first := order.Order{
		ID: "00000000000-first", Customer: "the house", State: order.Shipped, Total: 1850,
		Lines: []order.Line{{Product: "sejak", Name: "Sejak green", Quantity: 1, Price: 1850}},
	}
	err := store.Commit(ctx, storeapi.Put(order.Prefix+first.ID, first).At(0))
	if err != nil && service.StatusOf(err) == http.StatusConflict {
		return nil
	}
	return err
}
