package gateway

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// certificates chooses by the name that a client asks for. The set is parsed once, when it changed.
type certificates struct {
	source func() *[]maru.Certificate
	log    *slog.Logger

	mu     sync.RWMutex
	of     *[]maru.Certificate // the set that was parsed
	byName map[string]*tls.Certificate
	first  *tls.Certificate
}

func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	byName, first := c.parsed()
	if first == nil {
		return nil, maru.Errorf(maru.Unavailable, "there is no certificate")
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if cert := byName[name]; cert != nil {
		return cert, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if cert := byName["*."+parent]; cert != nil {
			return cert, nil
		}
	}
	// Whoever asks for another name sees at least whose door this is.
	return first, nil
}

func (c *certificates) parsed() (map[string]*tls.Certificate, *tls.Certificate) {
	set := c.source()
	c.mu.RLock()
	byName, first, fresh := c.byName, c.first, c.of == set
	c.mu.RUnlock()
	if fresh || set == nil {
		return byName, first
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == set {
		return c.byName, c.first
	}
	c.of, c.byName, c.first = set, map[string]*tls.Certificate{}, nil
	for _, s := range *set {
		c.add(s)
	}
	return c.byName, c.first
}

func (c *certificates) add(s maru.Certificate) {
	cert, err := tls.X509KeyPair(s.Chain, s.Key)
	if err != nil {
		c.log.Error("certificate can't be used", "error", err)
		return
	}
	if c.first == nil {
		c.first = &cert
	}
	names := cert.Leaf.DNSNames
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for _, name := range names {
		name = strings.ToLower(name)
		if have := c.byName[name]; have == nil || cert.Leaf.NotAfter.After(have.Leaf.NotAfter) {
			c.byName[name] = &cert
		}
	}
}
