// Catalog tells what the shop has.
package main

import (
	"net/http"
	"os"

	"shop/internal/service"
)

func main() {
	s := service.New("catalog")
	os.Exit(s.Run(handler(), nil))
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /products", func(w http.ResponseWriter, _ *http.Request) {
		service.Reply(w, http.StatusOK, products)
	})
	mux.HandleFunc("GET /products/{id}", func(w http.ResponseWriter, r *http.Request) {
		for _, p := range products {
			if p.ID == r.PathValue("id") {
				service.Reply(w, http.StatusOK, p)
				return
			}
		}
		service.Fail(w, http.StatusNotFound, "there is no "+r.PathValue("id"))
	})
	return mux
}
