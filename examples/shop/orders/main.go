// Orders takes orders and tells how they are. It keeps nothing itself: what it knows is in the store.
// With the argument "migrate" it brings the store's data into the form that it expects, and ends.
package main

import (
	"context"
	"net/http"
	"os"
	"slices"
	"time"

	"shop/internal/order"
	"shop/internal/service"
	"shop/internal/storeapi"
)

func main() {
	s := service.New("orders")
	store := storeapi.Client{URL: service.Env("STORE_URL", "http://store:8080")}
	if slices.Contains(os.Args[1:], "migrate") {
		os.Exit(runMigration(s, store))
	}
	d := &desk{store: store, catalog: service.Env("CATALOG_URL", "http://catalog:8080"), feed: service.NewHub()}
	follow := func(ctx context.Context) error {
		return service.Forever(ctx, s, "follow the store", func(ctx context.Context) error {
			return store.Watch(ctx, order.Prefix, d.announce)
		})
	}
	os.Exit(s.Run(d.handler(s), d.ready, follow))
}

func runMigration(s *service.Service, store storeapi.Client) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	from, to, err := migrate(ctx, store)
	if err != nil {
		s.Log.Error("the data could not be migrated", "error", err)
		return 1
	}
	s.Log.Info("the data is in form", "from", from, "to", to)
	return 0
}

// ready tells that the store is there and its data is in form.
func (d *desk) ready(ctx context.Context) error {
	_, err := d.store.Get(ctx, order.Schema)
	return err
}

func (d *desk) handler(s *service.Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", d.place)
	mux.HandleFunc("GET /orders", d.list)
	mux.HandleFunc("GET /orders/{id}", d.get)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		events, stop := d.feed.Join()
		defer stop()
		s.Stream(w, r, events)
	})
	return mux
}
