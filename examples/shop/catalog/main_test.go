package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProducts(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range products {
		if p.ID == "" || p.Name == "" || p.Price <= 0 || seen[p.ID] {
			t.Errorf("product %+v is incomplete or there twice", p)
		}
		seen[p.ID] = true
	}
	for path, want := range map[string]int{"/products": 200, "/products/moon-jar": 200, "/products/moon": 404} {
		w := httptest.NewRecorder()
		handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
