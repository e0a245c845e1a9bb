package gateway

import "strings"

// alternativeFor is how long, in seconds, clients remember that HTTP/3 is spoken.
const alternativeFor = "; ma=86400"

// alternative gives the Alt-Svc that tells of HTTP/3: at the port by which the client came, which by UDP
// leads here as well as by TCP.
func alternative(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i == len(host)-1 || strings.IndexByte(host[i:], ']') >= 0 || host[i+1:] == "443" {
		return `h3=":443"` + alternativeFor
	}
	return `h3="` + host[i:] + `"` + alternativeFor
}
