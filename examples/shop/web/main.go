// Web is the shop's front page: rendered here, kept live by server-sent events, with no data of its
// own. When a service that it asks is away, the page says so and shows the rest.
package main

import (
	"context"
	"net/http"
	"os"

	"shop/internal/service"
)

func main() {
	s := service.New("web")
	f := &front{
		service: s,
		catalog: service.Env("CATALOG_URL", "http://catalog:8080"),
		orders:  service.Env("ORDERS_URL", "http://orders:8080"),
		hub:     service.NewHub(),
	}
	follow := func(ctx context.Context) error {
		return service.Forever(ctx, s, "follow orders", func(ctx context.Context) error {
			return service.Listen(ctx, f.orders+"/events", f.relay)
		})
	}
	os.Exit(s.Run(f.handler(), nil, follow))
}

func (f *front) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.page)
	mux.HandleFunc("POST /orders", f.place)
	mux.HandleFunc("GET /orders/{id}", f.order)
	mux.HandleFunc("GET /events", f.events)
	mux.Handle("GET /assets/", http.FileServerFS(assets))
	return headers(mux)
}

// headers keep the page to itself: nothing from elsewhere runs in it, and it shows in nobody's frame.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
