// Package socket names the data plane's listening sockets, which others open and hand to it, and reads
// connections without waiting.
package socket

import "strings"

// Names of the sockets by what they are for. A number may follow.
const (
	HTTP   = "http"
	HTTPS  = "https"
	Mesh   = "mesh"
	DNSTCP = "dns-tcp"
	DNSUDP = "dns-udp"
	QUIC   = "quic"
)

// Kind gives what a socket of that name is for: the name without the number behind it.
func Kind(name string) string { return strings.TrimRight(name, "0123456789") }
