package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marucloud/maru"
)

// certificates chooses by the name that a client asks for. The set is indexed once, when it changed; a key is
// read when it is first needed, which for thousands of them would hold up a start.
type certificates struct {
	source func() *[]maru.Certificate
	log    *slog.Logger

	indexing sync.Mutex
	indexed  atomic.Pointer[certificateSet]
}

// certificateSet is immutable.
type certificateSet struct {
	of     *[]maru.Certificate // what was indexed
	byName map[string]*certificate
	first  *certificate
	public bool // one of them is
}

type certificate struct {
	public bool // strangers trust it
	names  []string
	until  time.Time
	pair   func() (*tls.Certificate, error)
}

func (c *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set := c.current()
	if set == nil || set.first == nil {
		return nil, maru.Errorf(maru.Unavailable, "there is no certificate")
	}
	if cert := set.find(strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))); cert != nil {
		return cert.pair()
	}
	// Whoever asks for another name sees at least whose door this is.
	return set.first.pair()
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
	set := c.indexed.Load()
	if source == nil || set != nil && set.of == source {
		return set
	}
	c.indexing.Lock()
	defer c.indexing.Unlock()
	if set := c.indexed.Load(); set != nil && set.of == source {
		return set
	}
	set = &certificateSet{of: source, byName: map[string]*certificate{}}
	for _, s := range *source {
		if err := set.add(s); err != nil {
			c.log.Error("certificate can't be used", "error", err)
		}
	}
	c.indexed.Store(set)
	return set
}

func (s *certificateSet) add(given maru.Certificate) error {
	cert, err := newCertificate(given)
	if err != nil {
		return err
	}
	s.public = s.public || cert.public
	if s.first == nil {
		s.first = cert
	}
	for _, name := range cert.names {
		if have := s.byName[name]; have == nil || cert.before(have) {
			s.byName[name] = cert
		}
	}
	return nil
}

func newCertificate(given maru.Certificate) (*certificate, error) {
	block, _ := pem.Decode(given.Chain)
	if block == nil {
		return nil, maru.Errorf(maru.Invalid, "no certificate in PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	names := leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for i := range names {
		names[i] = strings.ToLower(names[i])
	}
	return &certificate{given.Public, names, leaf.NotAfter, sync.OnceValues(func() (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(given.Chain, given.Key)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "certificate of %s: %w", strings.Join(names, ", "), err)
		}
		return &pair, nil
	})}, nil
}

// before tells whether the certificate is the better one of two for the same name.
func (c *certificate) before(other *certificate) bool {
	if c.public != other.public {
		return c.public
	}
	return c.until.After(other.until)
}
