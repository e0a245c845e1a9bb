package compose

import (
	"fmt"
	"mime"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// doors reads what a route does with requests before they reach the service, and with answers.
func (d decoder) doors(n *node, path string, p *maru.RoutePolicy) {
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	p.CORS = d.cors(at("cors"))
	p.Compress = d.compress(at("compress"))
	p.GRPCWeb = d.boolean(at("grpc_web"))
	p.Maintenance = d.maintenance(at("maintenance"))
	p.Addresses = d.addresses(at("addresses"))
	p.MaxBody = d.bytes(at("max_body"))
	p.Timeout = d.duration(at("timeout"))
	p.Limits = d.rateLimits(at("limit"))
	p.Auth = d.auth(at("auth"))
	if p.Quotas = d.quotas(at("quota")); p.Quotas != nil && n.get("auth").isEmpty() {
		d.invalid(n.get("quota"), joinKey(path, "quota"), "nobody knows whose requests they are", "add auth, such as auth: {keys: SECRET}; a limit can be by address")
	} else if p.Quotas != nil && p.Auth != nil && p.Auth.Forward != nil && p.Auth.Forward.User == "" {
		d.invalid(n.get("quota"), joinKey(path, "quota"), "the one who is asked does not say whose requests they are", "add user: the header of its answer that says who it is")
	}
	p.Concurrency = d.routeConcurrency(at("concurrency"))
}

// corsFields are the keys of x-maru.route.cors.
var corsFields = []string{"credentials", "expose", "headers", "max_age", "methods", "origins"}

func (d decoder) cors(n *node, path string) *maru.CORS {
	if n == nil || n.kind == nullNode {
		return nil
	}
	c := &maru.CORS{}
	origins, where := n, path
	if n.kind == mappingNode {
		d.mapping(n, path, corsFields...)
		at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
		c.Headers, c.Expose = d.list(at("headers")), d.list(at("expose"))
		if methods := n.get("methods"); methods.text() == "*" {
			c.Methods = []string{"*"}
		} else {
			c.Methods = d.routeMethods(at("methods"))
		}
		c.Credentials, c.MaxAge = d.boolean(at("credentials")), d.duration(at("max_age"))
		origins, where = at("origins")
	}
	if c.Origins = d.list(origins, where); len(c.Origins) == 0 {
		d.invalid(n, path, "does not say whose pages may use the answers", `write cors: https://example.com, or cors: {origins: ["https://*.example.com"]}`)
	}
	for i, origin := range c.Origins {
		if !isOrigin(origin) {
			d.l.fail(origins.list().items[i].pos, joinIndex(where, i), maru.Invalid, fmt.Sprintf("%q is not an origin", origin), `write it as https://example.com, without a path; "*" is every origin`)
		}
	}
	if c.Credentials && slices.Contains(c.Origins, "*") {
		d.invalid(n.get("credentials"), joinKey(path, "credentials"), "any page could act in the name of its visitors", "name the origins that may")
	}
	return c
}

// isOrigin tells whether text is scheme, host and maybe port, where a "*" may stand for a part of the host.
func isOrigin(text string) bool {
	if text == "*" || text == "null" {
		return true
	}
	u, err := url.Parse(strings.Replace(text, "*", "x", 1))
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.User == nil &&
		!strings.Contains(u.Host, "*") && !strings.HasSuffix(text, "#")
}

// compressFields are the keys of x-maru.route.compress.
var compressFields = []string{"min", "types"}

func (d decoder) compress(n *node, path string) *maru.Compress {
	switch {
	case n == nil || n.kind == nullNode:
		return nil
	case n.kind == scalarNode:
		if d.boolean(n, path) {
			return &maru.Compress{}
		}
		return nil
	case !d.mapping(n, path, compressFields...):
		return nil
	}
	c := &maru.Compress{Min: d.bytes(n.get("min"), joinKey(path, "min")), Types: d.list(n.get("types"), joinKey(path, "types"))}
	for i, kind := range c.Types {
		parsed, params, err := mime.ParseMediaType(kind)
		if err != nil || len(params) > 0 || !strings.Contains(parsed, "/") {
			d.l.fail(n.get("types").list().items[i].pos, joinIndex(joinKey(path, "types"), i), maru.Invalid, fmt.Sprintf("%q is not a media type", kind), "write it as application/x-thing")
			continue
		}
		c.Types[i] = parsed
	}
	return c
}

// maintenanceFields are the keys of x-maru.maintenance, of a route and of all of a service.
var maintenanceFields = []string{"except", "text"}

func (d decoder) maintenance(n *node, path string) *maru.Maintenance {
	switch {
	case n == nil || n.kind == nullNode:
		return nil
	case n.kind == scalarNode && (n.text() == "true" || n.text() == "false"):
		if n.text() == "false" {
			return nil
		}
		return &maru.Maintenance{}
	case n.kind == scalarNode:
		return &maru.Maintenance{Text: n.text()}
	case !d.mapping(n, path, maintenanceFields...):
		return nil
	}
	return &maru.Maintenance{Text: d.text(n.get("text"), joinKey(path, "text")), Except: d.networks(n.get("except"), joinKey(path, "except"))}
}

// addressFields are the keys of x-maru.route.addresses.
var addressFields = []string{"allow", "deny"}

func (d decoder) addresses(n *node, path string) *maru.AddressList {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != mappingNode {
		return &maru.AddressList{Allow: d.networks(n, path)}
	}
	d.mapping(n, path, addressFields...)
	a := &maru.AddressList{Allow: d.networks(n.get("allow"), joinKey(path, "allow")), Deny: d.networks(n.get("deny"), joinKey(path, "deny"))}
	if len(a.Allow)+len(a.Deny) == 0 {
		d.invalid(n, path, "names no addresses", "write addresses: 10.0.0.0/8, or {deny: [192.0.2.7]}")
	}
	return a
}

// networks reads addresses and ranges of them.
func (d decoder) networks(n *node, path string) []netip.Prefix {
	var all []netip.Prefix
	for i, text := range d.list(n, path) {
		prefix, err := netip.ParsePrefix(text)
		if a, single := netip.ParseAddr(text); single == nil && a.Zone() == "" {
			prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			d.l.fail(n.list().items[i].pos, joinIndex(path, i), maru.Invalid, fmt.Sprintf("%q is not an address", text), "write it as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32")
			continue
		}
		all = append(all, prefix.Masked())
	}
	return all
}

// bytes reads a size as in compose, such as 512k or 10m.
func (d decoder) bytes(n *node, path string) int64 {
	if n == nil || n.kind == nullNode {
		return 0
	}
	var size types.UnitBytes
	if n.kind != scalarNode || size.DecodeMapstructure(n.text()) != nil || size <= 0 {
		d.invalid(n, path, fmt.Sprintf("%q is not a size", n.text()), "write it in bytes, or as 512k, 10m or 1g")
		return 0
	}
	return int64(size)
}
