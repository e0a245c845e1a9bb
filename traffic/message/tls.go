package message

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"strings"
)

// TLS is what the handshake of a connection told. It is made once for a connection, and not changed.
type TLS struct {
	ServerName string // that the client asked for, in lower case without a dot at its end; "": none
	Peer       *Peer  // nil: the client showed no certificate
}

// Peer is a client whose certificate was verified in the handshake.
type Peer struct {
	Chains      [][]*x509.Certificate // each from the client's to that of an authority
	Certificate string                // the client's, as a Client-Cert field (RFC 9440, 2.2)
	Subject     string                // its distinguished name (RFC 4514)
}

// NewTLS takes what matters of a connection's state.
func NewTLS(s tls.ConnectionState) *TLS {
	t := &TLS{ServerName: strings.ToLower(strings.TrimSuffix(s.ServerName, "."))}
	if len(s.VerifiedChains) > 0 {
		leaf := s.VerifiedChains[0][0]
		t.Peer = &Peer{
			Chains:      s.VerifiedChains,
			Certificate: ":" + base64.StdEncoding.EncodeToString(leaf.Raw) + ":",
			Subject:     fieldValue(leaf.Subject.String()),
		}
	}
	return t
}

// VerifiedBy tells whether one of the authorities vouches for the client.
func (p *Peer) VerifiedBy(authorities []*x509.Certificate) bool {
	for _, chain := range p.Chains {
		for _, a := range authorities {
			if chain[len(chain)-1].Equal(a) {
				return true
			}
		}
	}
	return false
}

// fieldValue gives a text as a header can have it: what is not printable ASCII is written as "?".
func fieldValue(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
