package message

import (
	"net/url"
	"strings"
	"testing"
)

func TestCleanPath(t *testing.T) {
	for target, want := range map[string]struct {
		clean, path string
		encoded     bool
	}{
		"/":                        {"/", "/", false},
		"*":                        {"*", "*", false},
		"/a/b?x=/../y":             {"/a/b?x=/../y", "/a/b", false},
		"/a/./b":                   {"/a/b", "/a/b", false},
		"/a/../b":                  {"/b", "/b", false},
		"/a/..":                    {"/", "/", false},
		"/a/b/.":                   {"/a/b/", "/a/b/", false},
		"/../../a":                 {"/a", "/a", false},
		"/%61/x/%2e%2E/b%2f":       {"/a/b%2F", "/a/b/", true},
		"/a/%2e%2E/b?q":            {"/b?q", "/b", false},
		"/%61dmin":                 {"/%61dmin", "/admin", false},
		"/a%2fb":                   {"/a%2fb", "/a/b", true},
		"/a%5cb":                   {"/a%5cb", "/a/b", true},
		`/a\b`:                     {`/a\b`, "/a/b", true},
		"//a///b":                  {"//a///b", "/a/b", false},
		"/a%20b%c3%a9":             {"/a%20b%c3%a9", "/a bé", false},
		"/.well-known/x":           {"/.well-known/x", "/.well-known/x", false},
		"/a;v=1/b":                 {"/a;v=1/b", "/a;v=1/b", false},
		"/...":                     {"/...", "/...", false},
		"/a/%252e%252e/b":          {"/a/%252e%252e/b", "/a/%2e%2e/b", false},
		"/https://example.com/%3f": {"/https://example.com/%3f", "/https:/example.com/?", false},
	} {
		decoded, err := url.PathUnescape(strings.SplitN(target, "?", 2)[0])
		if err != nil {
			t.Fatal(err)
		}
		clean, path, encoded, err := CleanPath(target, decoded)
		if err != nil || clean != want.clean || path != want.path || encoded != want.encoded {
			t.Errorf("%s is %q, %q, %v, %v; want %q, %q, %v", target, clean, path, encoded, err, want.clean, want.path, want.encoded)
		}
	}
	for _, target := range []string{
		"/a%2f..%2fb", "/a/..%2fb", "/a%2f../b", `/a\..\b`, "/a/%2e%2e%5cb", "/a/..;/b", "/a/..;x=1/b", "/a/.;/b", "/%2e%2e;/b",
		"/a%00", "/a//../b", "/a%2fb/../c",
	} {
		if clean, path, _, err := CleanPath(target, target); err == nil {
			t.Errorf("%s is taken for %q, %q", target, clean, path)
		}
	}
}

// FuzzCleanPath: what is clean stays as it is, and has no dot segments in any reading.
func FuzzCleanPath(f *testing.F) {
	for _, target := range []string{"/a/../b", "/%2e%2e/x", "/a%2fb", `/\..`, "/a//b/.", "/a;x/..;"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		raw, _, _ := strings.Cut(target, "?")
		decoded, err := url.PathUnescape(raw)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		clean, path, encoded, err := CleanPath(target, decoded)
		if err != nil {
			return
		}
		again, path2, encoded2, err := CleanPath(clean, path)
		if err != nil || again != clean || path2 != path || encoded2 && !encoded {
			t.Fatalf("%q is %q, then %q; %q, then %q; %v", target, clean, again, path, path2, err)
		}
		for _, reading := range []string{path, Segments(clean)} {
			for segment := range strings.SplitSeq(reading, "/") {
				if segment == "." || segment == ".." {
					t.Fatalf("%q has a dot segment: %q", target, reading)
				}
			}
			if !strings.HasPrefix(reading, "/") || strings.Contains(reading, "//") {
				t.Fatalf("%q is read as %q", target, reading)
			}
		}
	})
}
