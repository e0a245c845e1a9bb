package compose

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/marucloud/maru"
)

// authFields are the keys of x-maru.route.auth, of which there is one, and of what stands under each.
var (
	authFields    = []string{"basic", "forward", "jwt", "keys", "oidc"}
	basicFields   = []string{"realm", "secret"}
	keysFields    = []string{"header", "secret"}
	jwtFields     = []string{"audience", "claim", "issuer", "keys"}
	forwardFields = []string{"fail", "path", "port", "request_headers", "response_headers", "service", "timeout", "url", "user"}
	oidcFields    = []string{"claim", "claims", "client", "emails", "groups", "issuer", "path", "scopes", "secret", "session"}
)

// auth reads how clients prove who they are.
func (d decoder) auth(n *node, path string) *maru.Auth {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, authFields...) {
		return nil
	}
	basic, keys := n.get("basic"), n.get("keys")
	if len(n.names) != 1 {
		d.invalid(n, path, "must have one of "+oneOf(authFields), "write auth: {basic: SECRET}, where the secret has lines NAME:HASH as htpasswd -B writes them")
		return nil
	}
	switch {
	case n.get("jwt") != nil:
		return d.jwt(n.get("jwt"), joinKey(path, "jwt"))
	case n.get("forward") != nil:
		return d.forwardAuth(n.get("forward"), joinKey(path, "forward"))
	case n.get("oidc") != nil:
		return d.login(n.get("oidc"), joinKey(path, "oidc"))
	case keys == nil && basic == nil:
		return nil
	case basic != nil:
		a := d.secretOf(basic, joinKey(path, "basic"), maru.BasicAuth, basicFields)
		if a.Realm = d.text(basic.get("realm"), joinKey(joinKey(path, "basic"), "realm")); strings.ContainsAny(a.Realm, "\\\"\r\n") {
			d.invalid(basic.get("realm"), joinKey(joinKey(path, "basic"), "realm"), fmt.Sprintf("%q can't be told to a browser", a.Realm), "leave quotes and backslashes out")
		}
		return a
	}
	a := d.secretOf(keys, joinKey(path, "keys"), maru.KeyAuth, keysFields)
	if a.Header = d.text(keys.get("header"), joinKey(joinKey(path, "keys"), "header")); a.Header != "" && !headerForm.MatchString(a.Header) {
		d.invalid(keys.get("header"), joinKey(joinKey(path, "keys"), "header"), "is not an HTTP header", "write it as X-Api-Key")
	}
	return a
}

// jwt reads whose tokens count.
func (d decoder) jwt(n *node, path string) *maru.Auth {
	a := &maru.Auth{Kind: maru.TokenAuth}
	if !d.mapping(n, path, jwtFields...) {
		return a
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	a.Issuer, a.Keys = d.issuer(at("issuer")), d.issuer(at("keys"))
	a.Audiences, a.Claim = d.list(at("audience")), d.text(at("claim"))
	if n.get("issuer") == nil {
		d.invalid(n, path, "does not say whose tokens count", "write auth: {jwt: {issuer: https://login.example.com}}")
	}
	return a
}

// issuer reads an address that keys are had from: nobody on the way may put his own in their place.
func (d decoder) issuer(n *node, path string) string {
	text := d.text(n, path)
	u, err := url.Parse(text)
	if n != nil && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1")) {
		d.invalid(n, path, fmt.Sprintf("%q is not an address that keys can be had from", text), "write it as https://login.example.com; http is for localhost only")
	}
	return text
}

// secretOf reads which secret says who is let in: its name, or a mapping with more.
func (d decoder) secretOf(n *node, path string, kind maru.AuthKind, fields []string) *maru.Auth {
	a := &maru.Auth{Kind: kind}
	name, at := n, path
	if n.kind != scalarNode {
		if !d.mapping(n, path, fields...) {
			return a
		}
		name, at = n.get("secret"), joinKey(path, "secret")
	}
	if a.Secret = d.secretName(name, at); a.Secret == "" {
		d.invalid(n, path, "does not say which secret has those that are let in", "write the name of one under secrets at the top of the file")
	}
	return a
}

// secretName reads the name of one of the app's secrets; "" for none.
func (d decoder) secretName(n *node, path string) string {
	name := d.text(n, path)
	if name != "" && d.l.src.get("secrets", name) == nil {
		d.invalid(n, path, fmt.Sprintf("there is no secret %s in this app", name), didYouMean(name, d.l.src.get("secrets").keys()))
	}
	return name
}
