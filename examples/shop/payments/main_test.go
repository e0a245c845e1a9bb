package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func ask(b *bank, key, body string) (int, Receipt) {
	r := httptest.NewRequest(http.MethodPost, "/charge", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	w := httptest.NewRecorder()
	b.handler().ServeHTTP(w, r)
	var receipt Receipt
	_ = json.Unmarshal(w.Body.Bytes(), &receipt)
	return w.Code, receipt
}

func TestCharge(t *testing.T) {
	b := newBank("k", 0)
	for name, c := range map[string]struct {
		key, body string
		status    int
		approved  bool
	}{
		"paid":      {"k", `{"order":"one","amount":100}`, 200, true},
		"too dear":  {"k", `{"order":"two","amount":50001}`, 200, false},
		"wrong key": {"x", `{"order":"three","amount":100}`, 401, false},
		"no order":  {"k", `{"amount":100}`, 400, false},
		"not JSON":  {"k", `amount`, 400, false},
	} {
		status, receipt := ask(b, c.key, c.body)
		if status != c.status || receipt.Approved != c.approved {
			t.Errorf("%s: %d %+v", name, status, receipt)
		}
	}
}

func TestBusyOnlyOnce(t *testing.T) {
	b := newBank("k", 0)
	was := 0
	for i := range 100 {
		body := fmt.Sprintf(`{"order":"o%d","amount":1}`, i)
		status, _ := ask(b, "k", body)
		if status == http.StatusServiceUnavailable {
			was++
			status, _ = ask(b, "k", body)
		}
		if status != http.StatusOK {
			t.Fatalf("order %d: %d", i, status)
		}
	}
	if was == 0 || was > 50 {
		t.Errorf("busy for %d of 100 orders", was)
	}
}
