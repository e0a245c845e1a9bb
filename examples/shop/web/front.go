package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"shop/internal/order"
	"shop/internal/service"
)

//go:embed assets
var assets embed.FS

//go:embed page.html shapes.html
var sources embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"money":  money,
	"stages": stages,
	"stamp":  func(t time.Time) string { return t.Format(time.RFC3339) },
}).ParseFS(sources, "*.html"))

// front is where customers come in.
type front struct {
	service         *service.Service
	catalog, orders string
	hub             *service.Hub
}

// product is what the catalog says of one.
type product struct {
	ID, Name, Blurb, Shape string
	Price, Hue             int
}

// board tells who answered for a part of the page, and how quickly.
type board struct {
	Part, Instance, Error string
	Took                  time.Duration
}

// page is all that the page shows.
type page struct {
	Products []product
	Orders   []order.Order
	Placed   string // the order that was just placed
	Problem  string
	Boards   []board
}

// patience bounds how long the page waits for the others.
const patience = 2 * time.Second

func (f *front) page(w http.ResponseWriter, r *http.Request) {
	f.render(w, r, http.StatusOK, page{Placed: r.FormValue("placed")})
}

func (f *front) render(w http.ResponseWriter, r *http.Request, status int, p page) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var shelves, book board
	var asked sync.WaitGroup
	asked.Go(func() { shelves = f.ask(ctx, "shelves", f.catalog+"/products", &p.Products) })
	asked.Go(func() { book = f.ask(ctx, "order book", f.orders+"/orders?limit=12", &p.Orders) })
	asked.Wait()
	p.Boards = []board{{Part: "page", Instance: f.service.Instance, Took: time.Since(start)}, shelves, book}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "page.html", p); err != nil {
		f.service.Log.Error("the page can't be rendered", "error", err)
		http.Error(w, "the page can't be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // the customer may be gone
}

func (f *front) ask(ctx context.Context, part, url string, into any) board {
	start := time.Now()
	b := board{Part: part}
	answered, err := service.Call(ctx, http.MethodGet, url, nil, nil, into)
	if err != nil {
		f.service.Log.Warn("a part of the page is missing", "part", part, "error", err.Error())
		b.Error = "away for a moment"
	}
	b.Instance, b.Took = answered.Get("X-Instance"), time.Since(start)
	return b
}

// place takes the form of the page, with a quantity for each product, and leads back to it. A program
// that asks for JSON gets the order.
func (f *front) place(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	type line struct {
		Product  string `json:"product"`
		Quantity int    `json:"quantity"`
	}
	var asked struct {
		Customer string `json:"customer"`
		Lines    []line `json:"lines"`
	}
	if err := r.ParseForm(); err != nil {
		f.refuse(w, r, http.StatusBadRequest, "the form can't be read")
		return
	}
	asked.Customer = r.PostForm.Get("customer")
	for name := range r.PostForm {
		id, ok := strings.CutPrefix(name, "q-")
		if n, err := strconv.Atoi(r.PostForm.Get(name)); ok && err == nil && n > 0 {
			asked.Lines = append(asked.Lines, line{id, n})
		}
	}
	if len(asked.Lines) == 0 {
		f.refuse(w, r, http.StatusBadRequest, "Choose something first, one leaf is enough.")
		return
	}
	var placed order.Order
	headers := http.Header{}
	if once := r.PostForm.Get("once"); once != "" {
		headers.Set("Idempotency-Key", once)
	}
	if _, err := service.Call(r.Context(), http.MethodPost, f.orders+"/orders", headers, asked, &placed); err != nil {
		f.service.Log.Warn("an order was not placed", "error", err.Error())
		status := service.StatusOf(err)
		reason := "The order book is being moved. Your order was not placed: try again in a moment."
		if status < 500 {
			reason = err.Error()
		}
		f.refuse(w, r, status, reason)
		return
	}
	if wantsJSON(r) {
		service.Reply(w, http.StatusCreated, placed)
		return
	}
	http.Redirect(w, r, "/?placed="+url.QueryEscape(placed.ID)+"#orders", http.StatusSeeOther)
}

func (f *front) refuse(w http.ResponseWriter, r *http.Request, status int, reason string) {
	if wantsJSON(r) {
		service.Fail(w, status, reason)
		return
	}
	f.render(w, r, status, page{Problem: reason})
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func (f *front) order(w http.ResponseWriter, r *http.Request) {
	var o order.Order
	if _, err := service.Call(r.Context(), http.MethodGet, f.orders+"/orders/"+url.PathEscape(r.PathValue("id")), nil, nil, &o); err != nil {
		service.Fail(w, service.StatusOf(err), err.Error())
		return
	}
	service.Reply(w, http.StatusOK, o)
}

func (f *front) events(w http.ResponseWriter, r *http.Request) {
	events, leave := f.hub.Join()
	defer leave()
	f.service.Stream(w, r, events)
}

// relay renders an order that changed, for all who look at the page.
func (f *front) relay(e service.Event) {
	var o order.Order
	if e.Name != "order" || json.Unmarshal([]byte(e.Data), &o) != nil {
		return
	}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "order", o); err != nil {
		f.service.Log.Error("an order can't be rendered", "error", err)
		return
	}
	f.hub.Publish(service.Event{Name: "order", Data: out.String()})
}

func money(cents int) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) }

// stage is one mark on an order's way.
type stage struct {
	Name          string
	Reached, Here bool
}

func stages(o order.Order) []stage {
	way := []order.State{order.Placed, order.Paying, order.Packing, order.Shipped}
	if o.State == order.Declined {
		way = []order.State{order.Placed, order.Paying, order.Declined}
	}
	at := 0
	for i, s := range way {
		if s == o.State {
			at = i
		}
	}
	all := make([]stage, len(way))
	for i, s := range way {
		all[i] = stage{string(s), i <= at, i == at}
	}
	return all
}
