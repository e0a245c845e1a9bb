package gateway

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/table"
)

// clients holds the authorities whose certificates clients have to show, by the host that they ask
// for. It follows the routes that the table has.
type clients struct {
	base   *tls.Config
	keys   func(common string) [][32]byte // of session tickets
	mu     sync.Mutex
	routes map[maru.ServiceID][]maru.Route // that ask for certificates
	now    atomic.Pointer[clientRules]     // nil: no route asks for any
}

// clientRules is immutable.
type clientRules struct {
	byHost  map[string]*hostRules
	byRoute map[*maru.RouteTLS][]*x509.Certificate
}

// hostRules is how connections for a host are begun.
type hostRules struct {
	authorities []*x509.Certificate
	common      string // what sessions that may be resumed have in common
	config      *tls.Config
}

// observe is a [table.Observer].
func (c *clients) observe(svc *table.Service, _, after *table.State) {
	var asking []maru.Route
	if after != nil {
		for _, r := range after.Routes {
			if r.TLS != nil && len(r.TLS.ClientCA) > 0 {
				asking = append(asking, r)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(asking) == 0 && len(c.routes[svc.ID]) == 0 {
		return
	}
	if c.routes == nil {
		c.routes = map[maru.ServiceID][]maru.Route{}
	}
	c.routes[svc.ID] = asking
	if len(asking) == 0 {
		delete(c.routes, svc.ID)
	}
	c.now.Store(c.compile())
}

// compile makes the rules of the routes. The caller holds the lock.
func (c *clients) compile() *clientRules {
	if len(c.routes) == 0 {
		return nil
	}
	rules := &clientRules{byHost: map[string]*hostRules{}, byRoute: map[*maru.RouteTLS][]*x509.Certificate{}}
	own := map[string][]*x509.Certificate{}
	for _, routes := range c.routes {
		for _, r := range routes {
			authorities := parseAuthorities(r.TLS.ClientCA)
			rules.byRoute[r.TLS] = authorities
			host := strings.TrimSuffix(strings.ToLower(r.Host), ".")
			own[host] = append(own[host], authorities...)
		}
	}
	for host := range own {
		// A request whose path is not at this host is led by the routes of the wider ones.
		h := &hostRules{}
		for name := range wider(host) {
			h.authorities = append(h.authorities, own[name]...)
		}
		h.compile(c.base)
		h.config.SetSessionTicketKeys(c.keys(h.common))
		rules.byHost[host] = h
	}
	return rules
}

func (h *hostRules) compile(base *tls.Config) {
	slices.SortFunc(h.authorities, func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) })
	h.authorities = slices.CompactFunc(h.authorities, (*x509.Certificate).Equal)
	sum := sha256.New()
	h.config = base.Clone()
	h.config.ClientCAs = x509.NewCertPool()
	for _, a := range h.authorities {
		h.config.ClientCAs.AddCert(a)
		sum.Write(a.Raw)
	}
	h.common = hex.EncodeToString(sum.Sum(nil))
	// Whether a certificate is needed is the route's to say, which is known with the request.
	h.config.ClientAuth = tls.VerifyClientCertIfGiven
}

// rotate gives all configurations their new ticket keys.
func (c *clients) rotate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rules := c.now.Load(); rules != nil {
		for _, h := range rules.byHost {
			h.config.SetSessionTicketKeys(c.keys(h.common))
		}
	}
}

// config gives how a connection for the host is to be begun; nil: as any other.
func (c *clients) config(host string) *tls.Config {
	rules := c.now.Load()
	if rules == nil {
		return nil
	}
	for name := range wider(host) {
		if h := rules.byHost[name]; h != nil {
			return h.config
		}
	}
	return nil
}

// authorities gives those that may vouch for the clients of a route.
func (c *clients) authorities(t *maru.RouteTLS) []*x509.Certificate {
	if rules := c.now.Load(); rules != nil {
		if list, ok := rules.byRoute[t]; ok {
			return list
		}
	}
	return parseAuthorities(t.ClientCA) // the route is new this very moment
}

// wider gives the host and the wildcards that stand for it, the nearest first, "" last.
func wider(host string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if host != "" && !yield(host) {
			return
		}
		for rest := strings.TrimPrefix(host, "*."); rest != ""; {
			_, parent, ok := strings.Cut(rest, ".")
			if !ok || parent == "" {
				break
			}
			if !yield("*." + parent) {
				return
			}
			rest = parent
		}
		yield("")
	}
}

// parseAuthorities reads certificates in PEM, and passes over what is none.
func parseAuthorities(data []byte) []*x509.Certificate {
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return list
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			list = append(list, cert)
		}
	}
}
