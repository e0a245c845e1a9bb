package gateway

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// suites are those of TLS 1.2 that are taken: with forward secrecy, and authenticated encryption (RFC
// 9325, 4.2). Of TLS 1.3 all are so.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// newTLS says how connections with TLS are begun.
func (g *Gateway) newTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		GetCertificate: g.certs.choose,
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// hello chooses the configuration for a client.
func (g *Gateway) hello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	host := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if list := g.table.Challenges(); list != nil && slices.Contains(hello.SupportedProtos, challengeProtocol) {
		return challengeTLS(*list, host)
	}
	return g.clients.config(host), nil
}

// secure holds a request against what its route says of TLS. A failure answers it.
func (g *Gateway) secure(r *message.Request, host string, m *table.Match, call *forward.Call) *forward.Failure {
	rules := m.Route.TLS
	if r.TLS == nil {
		if !g.fronted(r) && g.redirects(host, m) {
			f := forward.Moved(g.secureAddress(r))
			return &f
		}
	} else if rules != nil {
		call.HSTS = rules.HSTS
	}
	if rules == nil || len(rules.ClientCA) == 0 {
		return nil
	}
	switch {
	case r.TLS != nil && r.TLS.Peer != nil && r.TLS.Peer.VerifiedBy(g.clients.authorities(rules)):
		call.Peer = r.TLS.Peer
	case r.TLS != nil && g.clients.config(r.TLS.ServerName) != g.clients.config(host):
		f := forward.Misdirected(host)
		return &f
	case r.TLS == nil || !rules.ClientOptional:
		f := forward.NoClientCertificate(host)
		return &f
	}
	return nil
}

// redirects tells whether requests of the route that come in the clear are sent to HTTPS.
func (g *Gateway) redirects(host string, m *table.Match) bool {
	if len(g.cfg.HTTPS) == 0 {
		return false
	}
	if rules := m.Route.TLS; rules != nil && rules.Redirect != nil {
		return *rules.Redirect
	}
	return g.certs.public(host)
}

// fronted tells whether a proxy that is trusted ended TLS for the client.
func (g *Gateway) fronted(r *message.Request) bool {
	return len(g.cfg.Trusted) > 0 && message.Equal(r.Header.Get("X-Forwarded-Proto"), "https") &&
		slices.ContainsFunc(g.cfg.Trusted, func(p netip.Prefix) bool { return p.Contains(r.Client) })
}

// scheme gives the one by which the client came.
func (g *Gateway) scheme(r *message.Request) string {
	if r.TLS != nil || g.fronted(r) {
		return "https"
	}
	return r.Scheme
}

// secureAddress gives where a request would have to go. Whoever comes without a port comes by those of HTTP
// and HTTPS, maybe through something that leads them here.
func (g *Gateway) secureAddress(r *message.Request) string {
	host := r.Host
	if name, port, err := net.SplitHostPort(r.Host); err == nil {
		host = name
		if strings.Contains(name, ":") {
			host = "[" + name + "]"
		}
		if at, ok := g.cfg.HTTPS[0].Addr().(*net.TCPAddr); ok && port != "" && at.Port != 443 {
			host += ":" + strconv.Itoa(at.Port)
		}
	}
	target := r.Target
	if !strings.HasPrefix(target, "/") {
		target = "/"
	}
	return "https://" + host + target
}

// plain tells whether nothing of TLS concerns the request.
func (g *Gateway) plain(r *message.Request, m *table.Match) bool {
	return m.Route.TLS == nil && (r.TLS != nil || !g.certs.anyPublic())
}
