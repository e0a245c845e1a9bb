package gateway

import (
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/marucloud/maru"
)

// certificates chooses by the name that a client asks for. The set is parsed once, when it changed.
type certificates struct {
	source func() *[]maru.Certificate
	log    *slog.Logger

	parsing sync.Mutex
	parsed  atomic.Pointer[certificateSet]
}

// certificateSet is immutable.
type certificateSet struct {
	of     *[]maru.Certificate // what was parsed
	byName map[string]*certificate
	first  *certificate
	public bool // one of them is
}

type certificate struct {
	tls.Certificate
	public bool // strangers trust it
}

func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set := c.current()
	if set == nil || set.first == nil {
		return nil, maru.Errorf(maru.Unavailable, "there is no certificate")
	}
	if cert := set.find(strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))); cert != nil {
		return &cert.Certificate, nil
	}
	// Whoever asks for another name sees at least whose door this is.
	return &set.first.Certificate, nil
}

// public tells whether strangers trust the certificate that there is for a host.
func (c *certificates) public(host string) bool {
	set := c.current()
	if set == nil || !set.public {
		return false
	}
	cert := set.find(host)
	return cert != nil && cert.public
}

// anyPublic tells whether that may be so for any host at all.
func (c *certificates) anyPublic() bool {
	set := c.current()
	return set != nil && set.public
}

func (s *certificateSet) find(name string) *certificate {
	if cert := s.byName[name]; cert != nil {
		return cert
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return s.byName["*."+parent]
	}
	return nil
}

// current gives the set in force, or nil.
func (c *certificates) current() *certificateSet {
	source := c.source()
	set := c.parsed.Load()
	if source == nil || set != nil && set.of == source {
		return set
	}
	c.parsing.Lock()
	defer c.parsing.Unlock()
	if set := c.parsed.Load(); set != nil && set.of == source {
		return set
	}
	set = &certificateSet{of: source, byName: map[string]*certificate{}}
	for _, s := range *source {
		if err := set.add(s); err != nil {
			c.log.Error("certificate can't be used", "error", err)
		}
	}
	c.parsed.Store(set)
	return set
}

func (s *certificateSet) add(given maru.Certificate) error {
	pair, err := tls.X509KeyPair(given.Chain, given.Key)
	if err != nil {
		return err
	}
	cert := &certificate{pair, given.Public}
	s.public = s.public || cert.public
	if s.first == nil {
		s.first = cert
	}
	names := cert.Leaf.DNSNames
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for _, name := range names {
		name = strings.ToLower(name)
		if have := s.byName[name]; have == nil || cert.before(have) {
			s.byName[name] = cert
		}
	}
	return nil
}

// before tells whether the certificate is the better one of two for the same name.
func (c *certificate) before(other *certificate) bool {
	if c.public != other.public {
		return c.public
	}
	return c.Leaf.NotAfter.After(other.Leaf.NotAfter)
}
