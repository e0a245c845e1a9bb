package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"shop/internal/order"
	"shop/internal/service"
)

// newFront gives a front with a catalog of one product and an order book that keeps what is placed.
func newFront(t *testing.T) (f *front, book *httptest.Server) {
	t.Helper()
	catalog := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		service.Reply(w, http.StatusOK, []product{{ID: "tea", Name: "Tea <b>", Shape: "leaf", Price: 1850, Hue: 90}})
	}))
	t.Cleanup(catalog.Close)
	kept := []order.Order{}
	book = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			service.Reply(w, http.StatusOK, kept)
			return
		}
		var o order.Order
		if service.Read(w, r, &o) {
			o.ID, o.State, o.Placed = "id1", order.Placed, time.Now()
			kept = append(kept, o)
			service.Reply(w, http.StatusCreated, o)
		}
	}))
	t.Cleanup(book.Close)
	return &front{service: service.New("web"), catalog: catalog.URL, orders: book.URL, hub: service.NewHub()}, book
}

func ask(f *front, method, path string, form url.Values, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	f.handler().ServeHTTP(w, r)
	return w
}

func TestPage(t *testing.T) {
	f, book := newFront(t)
	form := url.Values{"customer": {"<script>Ann"}, "q-tea": {"2"}, "q-other": {"0"}}
	if w := ask(f, "POST", "/orders", form, "text/html"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/?placed=id1#orders" {
		t.Fatalf("placing an order: %d %s", w.Code, w.Header())
	}
	page := ask(f, "GET", "/", nil, "text/html").Body.String()
	for _, want := range []string{"Tea &lt;b&gt;", "$18.50", `id="o-id1"`, "&lt;script&gt;Ann", "hsl(90 "} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(page, "<script>Ann") {
		t.Error("a customer's name is not escaped")
	}
	book.Close()
	w := ask(f, "GET", "/", nil, "text/html")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "away for a moment") || !strings.Contains(w.Body.String(), "Tea") {
		t.Errorf("without the order book: %d", w.Code)
	}
	if w := ask(f, "POST", "/orders", form, "application/json"); w.Code != http.StatusServiceUnavailable || !json.Valid(w.Body.Bytes()) {
		t.Errorf("placing an order without the order book: %d %s", w.Code, w.Body)
	}
}

func TestEmptyOrder(t *testing.T) {
	f, _ := newFront(t)
	w := ask(f, "POST", "/orders", url.Values{"q-tea": {"0"}}, "text/html")
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "Choose something") {
		t.Errorf("%d", w.Code)
	}
}

func TestLive(t *testing.T) {
	f, _ := newFront(t)
	server := httptest.NewServer(f.handler())
	defer server.Close()
	resp, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the greeting: from now on this listener is there
	f.relay(service.Event{Name: "order", Data: `{"id":"x1","customer":"Ann","state":"declined","reason":"no"}`})
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), `data: <li id="o-x1" class="order declined">`) {
			return
		}
	}
	t.Fatalf("the order did not come: %v", lines.Err())
}
