package compose

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// tlsFields are the keys of x-maru.route.tls, and passedFields those of a route beside which its TLS can be passed
// through: nothing of a request is seen then.
var (
	tlsFields    = []string{"client", "client_ca", "hsts", "redirect"}
	passedFields = []string{"host", "port", "tls"}
)

// passthrough holds a route whose TLS the service ends against what can be done for it.
func (d decoder) passthrough(r maru.Route, n *node, path string) {
	if !r.PassesThrough() {
		return
	}
	for _, name := range n.names {
		if !slices.Contains(passedFields, name) && !strings.HasPrefix(name, "x-") && !n.fields[name].isEmpty() {
			d.invalid(n.fields[name], joinKey(path, name), "the service ends TLS itself, so that nothing of its requests is seen here", "leave "+name+" out, or tls: passthrough")
		}
	}
	if n.get("port").isEmpty() {
		d.invalid(n.get("tls"), joinKey(path, "tls"), "does not say at which port the service ends TLS", "write route: {host: …, port: 443, tls: passthrough}")
	}
}

// routeTLS reads what a route says of TLS.
func (d decoder) routeTLS(n *node, path string) *maru.RouteTLS {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind == scalarNode {
		if n.text() != "passthrough" {
			d.invalid(n, path, fmt.Sprintf("%q is nothing that can be said of TLS", n.text()), "write tls: passthrough, or a mapping with "+oneOf(tlsFields))
			return nil
		}
		return &maru.RouteTLS{Passthrough: true}
	}
	if !d.mapping(n, path, tlsFields...) {
		return nil
	}
	out := &maru.RouteTLS{HSTS: d.hsts(n.get("hsts"), joinKey(path, "hsts"))}
	if redirect := n.get("redirect"); redirect != nil && redirect.kind != nullNode {
		value := d.boolean(redirect, joinKey(path, "redirect"))
		out.Redirect = &value
	}
	if file := n.get("client_ca"); file != nil && !file.isEmpty() {
		out.ClientCA = d.authorities(file, joinKey(path, "client_ca"))
	}
	client := n.get("client")
	out.ClientOptional = d.choice(client, joinKey(path, "client"), "required", "optional") == "optional"
	switch at := joinKey(path, "client"); {
	case client != nil && !client.isEmpty() && out.ClientCA == nil && n.get("client_ca").isEmpty():
		d.invalid(client, at, "nothing says whose certificates clients have to show", "give client_ca: a file with the authorities' certificates in PEM")
	case out.ClientCA != nil && out.Redirect != nil && !*out.Redirect && !out.ClientOptional:
		d.invalid(n.get("redirect"), joinKey(path, "redirect"), "requests in the clear can show no certificate", "leave redirect out: with client_ca they are sent to HTTPS")
	}
	if out.ClientCA != nil && out.Redirect == nil {
		value := true
		out.Redirect = &value
	}
	return out
}

// hsts reads the promise that a host is served by HTTPS only, as the value of its header (RFC 6797, 6.1).
func (d decoder) hsts(n *node, path string) string {
	if n == nil || n.kind == nullNode {
		return ""
	}
	age, at := n, path
	more := ""
	if n.kind != scalarNode {
		if !d.mapping(n, path, "age", "preload", "subdomains") {
			return ""
		}
		age, at = n.get("age"), joinKey(path, "age")
		subdomains, preload := d.boolean(n.get("subdomains"), joinKey(path, "subdomains")), d.boolean(n.get("preload"), joinKey(path, "preload"))
		if subdomains {
			more += "; includeSubDomains"
		}
		if preload {
			more += "; preload"
		}
		if preload && !subdomains {
			d.invalid(n.get("preload"), joinKey(path, "preload"), "browsers' lists take a host with all below it only", "add subdomains: true")
		}
	}
	if age == nil || age.kind == nullNode {
		d.invalid(n, path, "lacks how long the promise holds", "write hsts: 180d, or hsts: {age: 180d, subdomains: true}")
		return ""
	}
	return "max-age=" + strconv.FormatInt(int64(d.duration(age, at)/time.Second), 10) + more
}

// authorities reads a file of certificates of authorities in PEM.
func (d decoder) authorities(n *node, path string) []byte {
	name := d.text(n, path)
	if name == "" {
		return nil
	}
	data, err := d.l.readFile(absolute(d.l.dir, name), maxContentFile)
	if err == nil {
		if err = checkAuthorities(data); err != nil {
			err = maru.WithHint(maru.Errorf(maru.Invalid, "%s %w", name, err), "it must hold the certificates of the authorities in PEM: -----BEGIN CERTIFICATE-----")
		}
	}
	if err != nil {
		d.l.failErr(n.pos, path, maru.Invalid, err)
		return nil
	}
	return data
}

func checkAuthorities(data []byte) error {
	for count := 0; ; count++ {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			if count == 0 {
				return errors.New("has no certificate")
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("has a %s, which is no certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("has a certificate that can't be read: %w", err)
		}
		if !cert.IsCA {
			return fmt.Errorf("has the certificate of %s, which is no authority", cert.Subject)
		}
	}
}
