package cli

import "testing"

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		server, protocol, host string
		want                   bool
	}{
		{"https://maru.example.com:6278", "https", "maru.example.com", true},
		{"https://maru.example.com:6278", "https", "Maru.example.com:8443", true},
		{"https://maru.example.com:6278", "http", "maru.example.com", false},
		{"https://maru.example.com:6278", "https", "github.com", false},
		{"https://maru.example.com:6278", "https", "maru.example.com.evil.test", false},
		{"https://localhost:6278", "http", "localhost:8080", true},
		{"https://[::1]:6278", "http", "[::1]:8080", true},
		{"", "https", "github.com", false},
		{"", "https", "", false},
	} {
		if got := sameHost(c.server, c.protocol, c.host); got != c.want {
			t.Errorf("%s for %s://%s: %v", c.server, c.protocol, c.host, got)
		}
	}
}
