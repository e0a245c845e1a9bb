package compose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// routeFields are the keys of x-maru.route.
var routeFields = []string{
	"addresses", "auth", "compress", "concurrency", "cors", "exact", "grpc_web", "headers", "host", "limit", "maintenance", "match", "max_body", "path", "port",
	"quota", "redirect", "request", "response", "rewrite", "strip", "timeout", "tls",
}

// routes reads one route or a list of them: a host, a host with a path, or a mapping.
func (d decoder) routes(n *node, path string) []routeKeys {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != listNode {
		return d.route(n, path)
	}
	var all []routeKeys
	for i, item := range n.items {
		all = append(all, d.route(item, joinIndex(path, i))...)
	}
	return all
}

func (d decoder) route(n *node, path string) []routeKeys {
	r := routeKeys{at: n, path: path}
	if n.kind == scalarNode {
		host, prefix, found := strings.Cut(n.text(), "/")
		if strings.Contains(n.text(), "://") {
			d.invalid(n, path, fmt.Sprintf("%q is an address, not a host", n.text()), "leave the scheme out: "+withoutScheme(n.text()))
			return nil
		}
		r.Host = d.host(n, path, host)
		if found {
			r.Path = d.prefix(n, path, "/"+prefix)
		}
		return []routeKeys{r}
	}
	if !d.mapping(n, path, routeFields...) {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	if host := n.get("host"); host != nil {
		r.Host = d.host(host, joinKey(path, "host"), d.text(host, joinKey(path, "host")))
	}
	r.Path, r.Exact = d.routePath(n, path)
	r.Match = d.match(at("match"))
	r.port = n.get("port")
	r.StripPrefix = d.boolean(at("strip"))
	r.Headers = d.headers(at("headers"))
	r.TLS = d.routeTLS(at("tls"))
	r.Policy = d.policy(n, path)
	d.loginFits(r.Route, n, path)
	d.passthrough(r.Route, n, path)
	if r.StripPrefix && (r.Path == "" || r.Exact) {
		d.invalid(n.get("strip"), joinKey(path, "strip"), "there is no prefix to strip", "give the route a path, without exact")
	}
	return []routeKeys{r}
}

// routePath reads path and exact. To an exact path a slash at its end means something.
func (d decoder) routePath(n *node, path string) (prefix string, exact bool) {
	exact = d.boolean(n.get("exact"), joinKey(path, "exact"))
	field := n.get("path")
	switch {
	case field == nil && exact:
		d.invalid(n.get("exact"), joinKey(path, "exact"), "there is no path that could be exact", "give the route a path")
		return "", false
	case field == nil:
		return "", false
	}
	text := d.text(field, joinKey(path, "path"))
	prefix = d.prefix(field, joinKey(path, "path"), text)
	if exact {
		return text, true
	}
	return prefix, false
}

// matchFields are the keys of x-maru.route.match.
var matchFields = []string{"headers", "methods", "query"}

// match reads what a request must have beside host and path.
func (d decoder) match(n *node, path string) *maru.RouteMatch {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, matchFields...) {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	m := &maru.RouteMatch{Methods: d.routeMethods(at("methods")), Headers: d.headers(at("headers")), Query: d.stringMap(at("query"))}
	if len(m.Methods)+len(m.Headers)+len(m.Query) == 0 {
		return nil
	}
	return m
}

var methodForm = regexp.MustCompile(`^[A-Z][A-Z-]*$`)

func (d decoder) routeMethods(n *node, path string) []string {
	methods := d.list(n, path)
	for i, method := range methods {
		if !methodForm.MatchString(method) {
			item := n.list().items[i]
			d.l.fail(item.pos, joinIndex(path, i), maru.Invalid, fmt.Sprintf("%q is not an HTTP method", method), "write it in capitals, such as GET")
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func withoutScheme(address string) string {
	_, rest, _ := strings.Cut(address, "://")
	return strings.TrimSuffix(rest, "/")
}

var hostForm = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// host reads a host name, "*.suffix", or "*" or nothing for every host.
func (d decoder) host(n *node, path, host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	switch {
	case host == "" || host == "*":
		return ""
	case strings.Contains(host, "://"):
		d.invalid(n, path, fmt.Sprintf("%q is an address, not a host", host), "leave the scheme out: "+withoutScheme(host))
	case strings.Contains(host, ":"):
		d.invalid(n, path, fmt.Sprintf("%q has a port", host), "a route is for every port of the gateway; the port of the container goes into port: {host: …, port: …}")
	case len(host) > 253 || !hostForm.MatchString(host):
		d.invalid(n, path, fmt.Sprintf("%q is not a host name", host), "write it as shop.example.com, or *.example.com for every name under it")
	}
	return host
}

// prefix reads a path. The gateway matches it by whole segments, so a trailing slash says nothing.
func (d decoder) prefix(n *node, path, prefix string) string {
	switch segments := strings.Split(strings.TrimRight(prefix, "/"), "/"); {
	case !strings.HasPrefix(prefix, "/") || strings.ContainsAny(prefix, "?#* \\"):
		d.invalid(n, path, fmt.Sprintf("%q is not a path", prefix), "write it as /api; it matches /api and all below it")
	case len(segments) > 1 && slices.ContainsFunc(segments[1:], func(s string) bool { return s == "" || s == "." || s == ".." }):
		d.invalid(n, path, fmt.Sprintf("%q has an empty segment or dots for one", prefix), "the gateway sees paths without them; write it as /api/v1")
	}
	return strings.TrimRight(prefix, "/")
}

var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (d decoder) headers(n *node, path string) map[string]string {
	headers := d.stringMap(n, path)
	for _, name := range sortedKeys(headers) {
		if !headerForm.MatchString(name) || strings.ContainsAny(headers[name], "\r\n\x00") {
			d.invalid(n.get(name), joinKey(path, name), "is not an HTTP header", "")
		}
	}
	return headers
}

// healthFields are the keys of x-maru.health.
var healthFields = []string{"exec", "grpc", "headers", "interval", "live", "path", "port", "retries", "start_interval", "start_period", "tcp", "timeout"}

// health reads the probe for readiness.
func (d decoder) health(n *node, path string) *healthKeys {
	if n == nil || n.kind == nullNode {
		return nil
	}
	k := &healthKeys{}
	if n.kind == scalarNode {
		k.probe.HTTP = &maru.HTTPProbe{Path: d.healthPath(n, path)}
		return k
	}
	if !d.mapping(n, path, healthFields...) {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	d.question(n, path, k)
	k.probe.Interval = d.duration(at("interval"))
	k.probe.Timeout = d.duration(at("timeout"))
	k.probe.StartPeriod = d.duration(at("start_period"))
	k.probe.StartInterval = d.duration(at("start_interval"))
	if n.get("retries") != nil {
		k.probe.Failures = d.integer(n.get("retries"), joinKey(path, "retries"), 1, 1000)
	}
	k.live = d.boolean(at("live"))
	return k
}

func (d decoder) healthPath(n *node, path string) string {
	text := d.text(n, path)
	if !strings.HasPrefix(text, "/") || strings.ContainsAny(text, " \r\n#") {
		d.invalid(n, path, fmt.Sprintf("%q is not a path", text), "write it as /healthz; for other questions use {tcp: PORT}, {grpc: true} or {exec: COMMAND}")
	}
	return text
}

// question reads what is asked: one of path, grpc, tcp and exec.
func (d decoder) question(n *node, path string, k *healthKeys) {
	var asked []string
	for _, name := range []string{"path", "grpc", "tcp", "exec"} {
		if field := n.get(name); field != nil && !field.isEmpty() {
			asked = append(asked, name)
		}
	}
	if len(asked) != 1 {
		d.invalid(n, path, "must have one of path, grpc, tcp and exec", "write health: {path: /healthz}")
		return
	}
	k.port = n.get("port")
	field, at := n.get(asked[0]), joinKey(path, asked[0])
	headers := d.headers(n.get("headers"), joinKey(path, "headers"))
	switch asked[0] {
	case "path":
		k.probe.HTTP = &maru.HTTPProbe{Path: d.healthPath(field, at), Headers: headers}
	case "grpc":
		k.probe.GRPC = &maru.GRPCProbe{}
		if field.value != true {
			k.probe.GRPC.Service = d.text(field, at)
		}
	case "tcp":
		if field.value != true {
			k.port = field
		}
	case "exec":
		k.probe.Exec = d.command(field, at)
		if k.port != nil {
			d.invalid(k.port, joinKey(path, "port"), "a command has no port", "leave port out")
		}
	}
	if len(headers) > 0 && asked[0] != "path" {
		d.invalid(n.get("headers"), joinKey(path, "headers"), "only a question over HTTP has headers", "leave headers out")
	}
}
