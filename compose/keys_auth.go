package compose

import (
	"fmt"
	"strings"

	"github.com/marucloud/maru"
)

// authFields are the keys of x-maru.route.auth, of which there is one, and of what stands under each.
var (
	authFields  = []string{"basic", "keys"}
	basicFields = []string{"realm", "secret"}
	keysFields  = []string{"header", "secret"}
)

// auth reads how clients prove who they are.
func (d decoder) auth(n *node, path string) *maru.Auth {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, authFields...) {
		return nil
	}
	basic, keys := n.get("basic"), n.get("keys")
	switch {
	case (basic == nil) == (keys == nil):
		d.invalid(n, path, "must have one of basic and keys", "write auth: {basic: SECRET}, where the secret has lines NAME:HASH as htpasswd -B writes them")
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
	known := d.l.src.get("secrets").keys()
	switch a.Secret = d.text(name, at); {
	case a.Secret == "":
		d.invalid(n, path, "does not say which secret has those that are let in", "write the name of one under secrets at the top of the file")
	case d.l.src.get("secrets", a.Secret) == nil:
		d.invalid(name, at, fmt.Sprintf("there is no secret %s in this app", a.Secret), didYouMean(a.Secret, known))
	}
	return a
}
