package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	for path, want := range map[string]struct {
		status int
		age    string
		part   string
	}{
		"/":          {200, "no-cache", "<title>"},
		"/style.css": {200, "public, max-age=86400", "body"},
		"/none":      {404, "", "not found"},
	} {
		w := httptest.NewRecorder()
		handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.part) || want.age != "" && w.Header().Get("Cache-Control") != want.age {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}
