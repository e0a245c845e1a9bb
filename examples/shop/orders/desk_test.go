package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"shop/internal/service"
)

func TestPrice(t *testing.T) {
	catalog := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/products/tea" {
			service.Fail(w, http.StatusNotFound, "there is none")
			return
		}
		service.Reply(w, http.StatusOK, map[string]any{"id": "tea", "name": "Tea", "price": 150})
	}))
	defer catalog.Close()
	d := &desk{catalog: catalog.URL}
	for name, c := range map[string]struct {
		wish   string
		total  int
		status int
	}{
		"two":         {`{"customer":"Ann","lines":[{"product":"tea","quantity":2}]}`, 300, 0},
		"a guest":     {`{"lines":[{"product":"tea","quantity":1}]}`, 150, 0},
		"own price":   {`{"lines":[{"product":"tea","quantity":1,"price":1}],"total":1}`, 150, 0},
		"none":        {`{"lines":[]}`, 0, http.StatusBadRequest},
		"no quantity": {`{"lines":[{"product":"tea"}]}`, 0, http.StatusBadRequest},
		"too many":    {`{"lines":[{"product":"tea","quantity":100}]}`, 0, http.StatusBadRequest},
		"unknown":     {`{"lines":[{"product":"tea/../x","quantity":1}]}`, 0, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			var asked wish
			if err := json.Unmarshal([]byte(c.wish), &asked); err != nil {
				t.Fatal(err)
			}
			o, err := d.price(context.Background(), asked)
			if c.status != 0 {
				if err == nil || service.StatusOf(err) != c.status {
					t.Errorf("%v, want %d", err, c.status)
				}
				return
			}
			if err != nil || o.Total != c.total || o.Customer == "" {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
}

func TestIDsSortByTime(t *testing.T) {
	start := time.Now()
	var ids []string
	for i := range 100 {
		ids = append(ids, newID(start.Add(time.Duration(i)*time.Hour)))
	}
	if !slices.IsSorted(ids) {
		t.Error(ids)
	}
}
