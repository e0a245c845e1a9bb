package message

import (
	"net/netip"
	"strings"
)

// HostName gives a host in lower case, without its port and the brackets of an IPv6 address.
func HostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 && strings.IndexByte(host, ':') == i {
		host = host[:i]
	} else if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end > 0 {
			host = host[:end]
		}
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// ValidHost tells whether s is a host with an optional port (RFC 9110, 7.2; RFC 3986, 3.2.2). Names
// are of the characters that host names are made of in practice.
func ValidHost(s string) bool {
	host := s
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		a, err := netip.ParseAddr(s[1:end])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return false
		}
		return s[end+1:] == "" || s[end+1] == ':' && port(s[end+2:])
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !port(s[i+1:]) {
			return false
		}
		host = s[:i]
	}
	if host == "" {
		return false
	}
	for i := range len(host) {
		c := host[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' && c != '~' {
			return false
		}
	}
	return true
}

// port takes an empty port too, which stands for the scheme's own.
func port(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}
