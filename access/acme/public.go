package acme

import (
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Public tells whether a public authority could vouch for the host: a name below one of the suffixes that
// registries give, or such a name's wildcard.
func Public(host string) bool {
	name := strings.TrimPrefix(host, "*.")
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	suffix, icann := publicsuffix.PublicSuffix(name)
	return (icann || strings.Contains(suffix, ".")) && name != suffix && !reserved(name)
}

// reserved tells whether the name is one of those that nobody can register (RFC 6761, RFC 8375).
func reserved(name string) bool {
	for _, suffix := range []string{"localhost", "internal", "local", "test", "example", "invalid", "onion", "alt", "home.arpa"} {
		if name == suffix || strings.HasSuffix(name, "."+suffix) {
			return true
		}
	}
	return false
}
