package gateway

import (
	"crypto/tls"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

const (
	// challengePath is where an authority asks by HTTP whether a host is the gateway's (RFC 8555, 8.3).
	challengePath = "/.well-known/acme-challenge/"
	// challengeProtocol is what it offers when it asks by TLS (RFC 8737, 4).
	challengeProtocol = "acme-tls/1"
)

// challenged gives the answer to a request of an authority; "" for one that is none. No other one of the
// same form is held up: a service may get certificates by itself.
func challenged(list []maru.Challenge, host string, r *message.Request) string {
	token, ok := strings.CutPrefix(r.Path, challengePath)
	if !ok {
		return ""
	}
	for _, c := range list {
		if c.Answer != "" && c.Token == token && strings.EqualFold(c.Host, host) {
			return c.Answer
		}
	}
	return ""
}

// tell answers with a text.
func tell(c message.Client, r *message.Request, text string) error {
	err := c.Begin(&message.Response{Status: 200, Length: int64(len(text)), Header: message.Header{{Name: "Content-Type", Value: "application/octet-stream"}}})
	if err == nil && r.Method != "HEAD" {
		err = c.Write([]byte(text))
	}
	if err != nil {
		return err
	}
	return c.End(nil)
}

// challengeTLS is how a connection of an authority that asks by TLS is begun. Nothing is said on it after
// the handshake.
func challengeTLS(list []maru.Challenge, host string) (*tls.Config, error) {
	for _, c := range list {
		if c.Certificate == nil || !strings.EqualFold(c.Host, host) {
			continue
		}
		pair, err := tls.X509KeyPair(c.Certificate.Chain, c.Certificate.Key)
		if err != nil {
			return nil, err
		}
		return &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{challengeProtocol}, SessionTicketsDisabled: true,
			Certificates: []tls.Certificate{pair},
		}, nil
	}
	return nil, maru.Errorf(maru.NotFound, "no authority asks for %s", host)
}
