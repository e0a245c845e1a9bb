package compose

import (
	"slices"

	"github.com/marucloud/maru"
)

// allowKeys are who may call a service, and of some of them with what.
type allowKeys struct {
	callers []string
	calls   map[string][]maru.CallRule
}

// allow reads the callers: names, or mappings that limit what a caller may ask. Who is named without a limit
// as well has none.
func (d decoder) allow(n *node, path string) allowKeys {
	var k allowKeys
	if n == nil || n.kind == nullNode {
		return k
	}
	items, free := []*node{n}, map[string]bool{}
	if n.kind == listNode {
		items = n.items
	}
	for i, item := range items {
		at := path
		if n.kind == listNode {
			at = joinIndex(path, i)
		}
		name, rule := d.caller(item, at)
		k.callers = append(k.callers, name)
		if len(rule.Methods)+len(rule.Paths) == 0 {
			free[name] = true
			continue
		}
		if k.calls == nil {
			k.calls = map[string][]maru.CallRule{}
		}
		k.calls[name] = append(k.calls[name], rule)
	}
	for name := range free {
		delete(k.calls, name)
	}
	if len(k.calls) == 0 {
		k.calls = nil
	}
	slices.Sort(k.callers)
	k.callers = slices.Compact(k.callers)
	return k
}

func (d decoder) caller(n *node, path string) (name string, rule maru.CallRule) {
	if n.kind != mappingNode {
		return d.callerName(n, path), rule
	}
	if !d.mapping(n, path, "service", "methods", "paths") {
		return "", rule
	}
	service := n.get("service")
	if service == nil {
		d.invalid(n, path, "does not say who may call", "write {service: web, methods: [GET], paths: [/api]}")
		return "", rule
	}
	name = d.callerName(service, joinKey(path, "service"))
	rule.Methods = d.methods(n.get("methods"), joinKey(path, "methods"))
	rule.Paths = d.prefixes(n.get("paths"), joinKey(path, "paths"))
	return name, rule
}

// callerName reads who calls: the gateway or a service of the app.
func (d decoder) callerName(n *node, path string) string {
	name := d.text(n, path)
	services := d.l.src.get("services").keys()
	if n.kind == scalarNode && name != "gateway" && !slices.Contains(services, name) {
		d.l.fail(n.pos, path, maru.Invalid, "there is no service "+name+" in this app",
			didYouMean(name, append(slices.Clone(services), "gateway")))
	}
	return name
}

// methods reads one or more of HTTP's methods.
func (d decoder) methods(n *node, path string) []string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	all := d.list(n, path)
	for i, m := range all {
		if !slices.Contains(httpMethods, m) && n.kind != mappingNode {
			d.l.fail(n.list().items[i].pos, joinIndex(path, i), maru.Invalid, m+" is no method of HTTP", didYouMean(m, httpMethods))
		}
	}
	return all
}

var httpMethods = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// prefixes reads one or more paths, each of which is meant with all below it.
func (d decoder) prefixes(n *node, path string) []string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	var all []string
	for i, text := range d.list(n, path) {
		item := n.list().items[i]
		all = append(all, d.prefix(item, joinIndex(path, i), text))
	}
	return all
}
