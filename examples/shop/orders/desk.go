package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"shop/internal/order"
	"shop/internal/service"
	"shop/internal/storeapi"
)

// desk is where orders are placed.
type desk struct {
	store   storeapi.Client
	catalog string
	feed    *service.Hub
}

// announce tells all who listen of a change in the store.
func (d *desk) announce(e storeapi.Entry) {
	if e.Value != nil {
		d.feed.Publish(service.Event{Name: "order", Data: string(e.Value)})
	}
}

// wish is what a customer asks for.
type wish struct {
	Customer string `json:"customer"`
	Lines    []struct {
		Product  string `json:"product"`
		Quantity int    `json:"quantity"`
	} `json:"lines"`
}

// Bounds of an order.
const (
	maxLines    = 20
	maxQuantity = 99
	maxName     = 60
)

func (d *desk) place(w http.ResponseWriter, r *http.Request) {
	var asked wish
	if !service.Read(w, r, &asked) {
		return
	}
	o, err := d.price(r.Context(), asked)
	if err != nil {
		service.Fail(w, service.StatusOf(err), err.Error())
		return
	}
	// The same key gives the same order, however often a customer's browser or a proxy tries.
	ops := []storeapi.Op{storeapi.Put(order.Prefix+o.ID, o).At(0), storeapi.Put(order.Queue+o.ID, o.ID)}
	once := r.Header.Get("Idempotency-Key")
	if once != "" {
		ops = append(ops, storeapi.Put("once/"+url.PathEscape(once), o.ID).At(0))
	}
	err = d.store.Commit(r.Context(), ops...)
	if err != nil && service.StatusOf(err) == http.StatusConflict && once != "" {
		o, err = d.placedBefore(r.Context(), once)
	}
	if err != nil {
		service.Fail(w, service.StatusOf(err), err.Error())
		return
	}
	service.Reply(w, http.StatusCreated, o)
}

func (d *desk) placedBefore(ctx context.Context, once string) (order.Order, error) {
	var id string
	var o order.Order
	e, err := d.store.Get(ctx, "once/"+url.PathEscape(once))
	if err == nil {
		err = json.Unmarshal(e.Value, &id)
	}
	if err == nil {
		e, err = d.store.Get(ctx, order.Prefix+id)
	}
	if err == nil {
		err = json.Unmarshal(e.Value, &o)
	}
	return o, err
}

// price makes an order of a wish, at the catalog's prices.
func (d *desk) price(ctx context.Context, asked wish) (order.Order, error) {
	customer := strings.TrimSpace(asked.Customer)
	if customer == "" {
		customer = "a guest"
	}
	if len(customer) > maxName || len(asked.Lines) == 0 || len(asked.Lines) > maxLines {
		return order.Order{}, &service.StatusError{Status: http.StatusBadRequest,
			Message: fmt.Sprintf("an order has 1 to %d lines and a name of at most %d letters", maxLines, maxName)}
	}
	now := time.Now().UTC()
	o := order.Order{ID: newID(now), Customer: customer, State: order.Placed, Placed: now, Changed: now}
	for _, l := range asked.Lines {
		if l.Quantity < 1 || l.Quantity > maxQuantity {
			return o, &service.StatusError{Status: http.StatusBadRequest, Message: fmt.Sprintf("a quantity is 1 to %d", maxQuantity)}
		}
		var p struct {
			ID, Name string
			Price    int
		}
		if _, err := service.Call(ctx, http.MethodGet, d.catalog+"/products/"+url.PathEscape(l.Product), nil, nil, &p); err != nil {
			return o, err
		}
		o.Lines = append(o.Lines, order.Line{Product: p.ID, Name: p.Name, Quantity: l.Quantity, Price: p.Price})
		o.Total += p.Price * l.Quantity
	}
	return o, nil
}

// newID sorts by time, and is nobody's else.
func newID(now time.Time) string {
	return fmt.Sprintf("%011x-%s", now.UnixMilli(), strings.ToLower(rand.Text()[:6]))
}

func (d *desk) list(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit < 1 || limit > 200 {
		limit = 20
	}
	entries, err := d.store.List(r.Context(), order.Prefix, limit)
	if err != nil {
		service.Fail(w, service.StatusOf(err), err.Error())
		return
	}
	orders := make([]json.RawMessage, 0, len(entries))
	for _, e := range entries {
		orders = append(orders, e.Value)
	}
	service.Reply(w, http.StatusOK, orders)
}

func (d *desk) get(w http.ResponseWriter, r *http.Request) {
	e, err := d.store.Get(r.Context(), order.Prefix+url.PathEscape(r.PathValue("id")))
	if err != nil {
		service.Fail(w, service.StatusOf(err), err.Error())
		return
	}
	service.Reply(w, http.StatusOK, e.Value)
}
