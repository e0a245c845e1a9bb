package compose

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// policy reads what a route does besides leading on; nil for nothing.
func (d decoder) policy(n *node, path string) *maru.RoutePolicy {
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	p := &maru.RoutePolicy{
		Redirect: d.redirect(at("redirect")),
		Rewrite:  d.rewrite(at("rewrite")),
		Request:  d.headerEdit(at("request")),
		Response: d.headerEdit(at("response")),
	}
	d.doors(n, path, p)
	if p.Redirect != nil && p.Rewrite != nil {
		d.invalid(n.get("rewrite"), joinKey(path, "rewrite"), "a request that is redirected reaches no service", "leave rewrite out, or redirect")
	}
	if strip := n.get("strip"); p.Rewrite != nil && strip != nil && p.Rewrite.Path+p.Rewrite.Host == "" {
		d.invalid(strip, joinKey(path, "strip"), "the path is rewritten already", `leave strip out; rewrite: {prefix: /} does the same`)
	}
	if reflect.DeepEqual(p, &maru.RoutePolicy{}) {
		return nil
	}
	return p
}

// redirectFields and rewriteFields are the keys of x-maru.route.redirect and rewrite.
var (
	redirectFields = []string{"host", "path", "port", "prefix", "scheme", "status"}
	rewriteFields  = []string{"host", "path", "prefix"}
)

func (d decoder) redirect(n *node, path string) *maru.Redirect {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, redirectFields...) {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	r := &maru.Redirect{Scheme: d.choice(n.get("scheme"), joinKey(path, "scheme"), "http", "https"), Port: uint16(d.integer(n.get("port"), joinKey(path, "port"), 1, 65535))}
	r.Host = d.plainHost(at("host"))
	r.Path, r.Prefix = d.replacement(n, path)
	if status := n.get("status"); status != nil {
		code, err := strconv.Atoi(status.text())
		if r.Status = code; err != nil || !slices.Contains([]int{301, 302, 303, 307, 308}, code) {
			d.invalid(status, joinKey(path, "status"), fmt.Sprintf("%q is no status of a redirect", status.text()), "it can be 301 (for good), 302, 303, 307 (with the same method) or 308 (for good, with the same method)")
		}
	}
	if reflect.DeepEqual(r, &maru.Redirect{Status: r.Status}) {
		d.invalid(n, path, "does not say where to", "write redirect: {scheme: https}, or {host: www.example.com}")
	}
	return r
}

func (d decoder) rewrite(n *node, path string) *maru.Rewrite {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, rewriteFields...) {
		return nil
	}
	r := &maru.Rewrite{Host: d.plainHost(n.get("host"), joinKey(path, "host"))}
	r.Path, r.Prefix = d.replacement(n, path)
	if *r == (maru.Rewrite{}) {
		d.invalid(n, path, "does not say what to", "write rewrite: {prefix: /v2}, or {host: internal.example.com}")
	}
	return r
}

// plainHost reads a host name that stands for one host.
func (d decoder) plainHost(n *node, path string) string {
	if n == nil {
		return ""
	}
	host := d.host(n, path, d.text(n, path))
	if host == "" || strings.HasPrefix(host, "*") {
		d.invalid(n, path, fmt.Sprintf("%q is not one host", n.text()), "write it as www.example.com")
	}
	return host
}

// replacement reads path and prefix, of which there may be one.
func (d decoder) replacement(n *node, path string) (whole string, prefix *string) {
	if whole := n.get("path"); whole != nil {
		d.prefix(whole, joinKey(path, "path"), d.text(whole, joinKey(path, "path")))
	}
	field := n.get("prefix")
	if field == nil {
		return n.get("path").text(), nil
	}
	if n.get("path") != nil {
		d.invalid(field, joinKey(path, "prefix"), "path stands for the whole path already", "leave path or prefix out")
	}
	by := d.prefix(field, joinKey(path, "prefix"), d.text(field, joinKey(path, "prefix")))
	return n.get("path").text(), &by
}

// editFields are the keys of x-maru.route.request and response.
var editFields = []string{"add", "remove", "set"}

func (d decoder) headerEdit(n *node, path string) *maru.HeaderEdit {
	if n == nil || n.kind == nullNode || !d.mapping(n, path, editFields...) {
		return nil
	}
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	e := &maru.HeaderEdit{Remove: d.list(at("remove")), Set: d.headers(at("set")), Add: d.headers(at("add"))}
	for i, name := range e.Remove {
		if !headerForm.MatchString(name) {
			d.l.fail(n.get("remove").list().items[i].pos, joinIndex(joinKey(path, "remove"), i), maru.Invalid, "is not an HTTP header", "")
		}
	}
	for _, field := range []string{"add", "set"} {
		values := n.get(field)
		for _, name := range values.keys() {
			d.ownHeader(values.get(name), joinKey(joinKey(path, field), name), name)
		}
	}
	if len(e.Remove)+len(e.Set)+len(e.Add) == 0 {
		return nil
	}
	return e
}

// connectionHeaders are of one connection, or say how a message is delimited.
var connectionHeaders = []string{
	"connection", "content-length", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
}

func (d decoder) ownHeader(n *node, path, name string) {
	switch lower := strings.ToLower(name); {
	case lower == "host":
		d.invalid(n, path, "the host is not set as a header", "write rewrite: {host: …}")
	case slices.Contains(connectionHeaders, lower):
		d.invalid(n, path, "is the connection's own header", "leave it out")
	case strings.HasPrefix(lower, "x-maru-"):
		d.invalid(n, path, "is set by Maru alone", "choose another name")
	}
}
