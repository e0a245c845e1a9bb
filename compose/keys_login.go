package compose

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// forwardAuth reads who is asked whether a request is let in: a service's name or an address, or a mapping
// with more.
func (d decoder) forwardAuth(n *node, path string) *maru.Auth {
	f := &maru.ForwardAuth{}
	a := &maru.Auth{Kind: maru.ForwardedAuth, Forward: f}
	if n.kind == scalarNode {
		d.authorizer(n, path, f)
		return a
	}
	if !d.mapping(n, path, forwardFields...) {
		return a
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	service, address := n.get("service"), n.get("url")
	switch {
	case (service == nil) == (address == nil):
		d.invalid(n, path, "must have one of service and url", "write auth: {forward: {service: gate, path: /verify}}")
	case service != nil:
		d.authorizer(service, joinKey(path, "service"), f)
	default:
		d.authorizer(address, joinKey(path, "url"), f)
	}
	for _, key := range []string{"path", "port"} {
		if field := n.get(key); field != nil && address != nil {
			d.invalid(field, joinKey(path, key), "the address has it already", "write it into url")
		}
	}
	if p := n.get("path"); p != nil {
		if f.Path = d.text(p, joinKey(path, "path")); !strings.HasPrefix(f.Path, "/") || strings.ContainsAny(f.Path, " #\r\n") {
			d.invalid(p, joinKey(path, "path"), fmt.Sprintf("%q is not a path", f.Path), "write it as /verify")
		}
	}
	if n.get("port") != nil {
		f.Port = uint16(d.integer(n.get("port"), joinKey(path, "port"), 1, 65535))
	}
	f.Send, f.Take = d.headerNames(at("request_headers")), d.headerNames(at("response_headers"))
	if user := n.get("user"); user != nil {
		if names := d.headerNames(user, joinKey(path, "user")); len(names) == 1 {
			f.User = names[0]
		}
	}
	f.Timeout = d.duration(at("timeout"))
	f.Open = d.choice(n.get("fail"), joinKey(path, "fail"), "closed", "open") == "open"
	return a
}

// authorizer reads a service's name, or an address.
func (d decoder) authorizer(n *node, path string, f *maru.ForwardAuth) {
	text := d.text(n, path)
	if strings.Contains(text, "://") || strings.HasSuffix(path, ".url") {
		f.URL = text
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" {
			d.invalid(n, path, fmt.Sprintf("%q is not an address", text), "write it as https://auth.example.com/verify")
		}
		return
	}
	f.Service = text
	if services := d.l.src.get("services"); services.get(text) == nil {
		d.invalid(n, path, fmt.Sprintf("there is no service %s in this app", text), didYouMean(text, services.keys()))
	}
}

// headerNames reads names of header fields.
func (d decoder) headerNames(n *node, path string) []string {
	names := d.list(n, path)
	for i, name := range names {
		switch {
		case !headerForm.MatchString(name):
			d.l.fail(n.list().items[i].pos, joinIndex(path, i), maru.Invalid, fmt.Sprintf("%q is not an HTTP header", name), "write it as X-Auth-User")
		case slices.Contains(connectionHeaders, strings.ToLower(name)):
			d.l.fail(n.list().items[i].pos, joinIndex(path, i), maru.Invalid, name+" is the connection's own header", "leave it out")
		case strings.HasPrefix(strings.ToLower(name), "x-maru-"):
			d.l.fail(n.list().items[i].pos, joinIndex(path, i), maru.Invalid, name+" is set by Maru alone", "leave it out")
		}
	}
	return names
}

// login reads where people log in, and who of them is let in.
func (d decoder) login(n *node, path string) *maru.Auth {
	l := &maru.Login{}
	a := &maru.Auth{Kind: maru.LoginAuth, Login: l}
	if !d.mapping(n, path, oidcFields...) {
		return a
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	for _, key := range []string{"issuer", "client"} {
		if n.get(key).isEmpty() {
			d.invalid(n, path, "lacks "+key, "write auth: {oidc: {issuer: https://login.example.com, client: shop, secret: login}}")
		}
	}
	a.Issuer = d.issuer(at("issuer"))
	l.Client, a.Claim = d.text(at("client")), d.text(at("claim"))
	a.Secret = d.secretName(at("secret"))
	l.Scopes = slices.DeleteFunc(d.list(at("scopes")), func(scope string) bool { return scope == "openid" })
	l.Emails, l.Groups = d.list(at("emails")), d.list(at("groups"))
	for i, email := range l.Emails {
		if name, domain, ok := strings.Cut(email, "@"); !ok || domain == "" || name == "" || strings.Contains(name, "*") && name != "*" || strings.ContainsAny(domain, "*@") {
			d.l.fail(n.get("emails").list().items[i].pos, joinIndex(joinKey(path, "emails"), i), maru.Invalid, fmt.Sprintf("%q is not an e-mail address", email), `write it as ada@example.com, or "*@example.com" for all of a domain`)
		}
	}
	l.Claims = d.loginClaims(at("claims"))
	if p := n.get("path"); p != nil {
		l.Path = d.prefix(p, joinKey(path, "path"), d.text(p, joinKey(path, "path")))
	}
	if session := n.get("session"); session != nil {
		if l.Session = d.duration(session, joinKey(path, "session")); l.Session > maru.LongestSession {
			d.invalid(session, joinKey(path, "session"), "is longer than seven days", "write session: 168h or less")
		}
	}
	return a
}

// loginClaims reads values by the names of claims.
func (d decoder) loginClaims(n *node, path string) map[string][]string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != mappingNode {
		d.invalid(n, path, "must be a mapping of values by the names of claims", "write claims: {department: [sales]}")
		return nil
	}
	claims := map[string][]string{}
	for _, name := range n.names {
		if claims[name] = d.list(n.fields[name], joinKey(path, name)); len(claims[name]) == 0 {
			d.invalid(n.fields[name], joinKey(path, name), "names no values", "write claims: {department: [sales]}")
		}
	}
	return claims
}

// loginFits tells whether a route can take the provider's answer, and faults it if not.
func (d decoder) loginFits(r maru.Route, n *node, path string) {
	if r.Policy == nil || r.Policy.Auth == nil || r.Policy.Auth.Kind != maru.LoginAuth {
		return
	}
	for key, is := range map[string]bool{"exact": r.Exact, "match": r.Match != nil} {
		if is {
			d.invalid(n.get(key), joinKey(path, key), "people who logged in come back below the route's path, which this does not take", "leave "+key+" out, or auth")
		}
	}
}
