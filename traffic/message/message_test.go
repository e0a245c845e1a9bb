package message

import (
	"slices"
	"testing"
)

func TestHost(t *testing.T) {
	for host, want := range map[string]struct {
		name  string
		valid bool
	}{
		"a.Test":           {"a.test", true},
		"a.test:80":        {"a.test", true},
		"a.test:":          {"a.test", true},
		"a_b-c~d.test":     {"a_b-c~d.test", true},
		"10.0.0.1:8080":    {"10.0.0.1", true},
		"[::1]":            {"::1", true},
		"[FD00::1]:80":     {"fd00::1", true},
		"[::1%25eth0]":     {"::1%25eth0", false},
		"[10.0.0.1]":       {"10.0.0.1", false},
		"[::1":             {"::1", false},
		"[::1]x":           {"::1", false},
		"::1":              {"::1", false},
		"":                 {"", false},
		":80":              {"", false},
		"a:x":              {"a", false},
		"a:123456":         {"a", false},
		"u@a":              {"u@a", false},
		"a/b":              {"a/b", false},
		"a b":              {"a b", false},
		"a\x00":            {"a\x00", false},
		"a,b":              {"a,b", false},
		"xn--bcher-kva.de": {"xn--bcher-kva.de", true},
	} {
		if got := HostName(host); got != want.name {
			t.Errorf("name of %q is %q, want %q", host, got, want.name)
		}
		if got := ValidHost(host); got != want.valid {
			t.Errorf("%q is valid: %v", host, got)
		}
	}
}

func TestHeader(t *testing.T) {
	h := Header{{"Accept", "a"}, {"x-y", "1"}, {"ACCEPT", "b, C ,d"}}
	if h.Get("accept") != "a" || !h.Has("X-Y") || h.Has("X") || !slices.Equal(slices.Collect(h.Values("Accept")), []string{"a", "b, C ,d"}) {
		t.Fatal(h)
	}
	if !h.HasToken("accept", "c") || h.HasToken("accept", "e") || h.HasToken("accept", "") && h.HasToken("x-y", "") {
		t.Fatal(h)
	}
	h.Set("Accept", "z")
	if !slices.Equal(h, Header{{"x-y", "1"}, {"Accept", "z"}}) {
		t.Fatal(h)
	}
	if Equal("chun\u212aed", "chunked") || !Equal("CHUNKED", "chunked") {
		t.Fatal("letters beyond ASCII have no case here")
	}
}
