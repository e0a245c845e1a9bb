package maru

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Route leads requests from the gateway to a service. Of several that fit a request the most specific
// one has it, in the order of the Gateway API's HTTPRoute: by host (exact, then the longest wildcard,
// then any), an exact path before the longest prefix, then a method, then most header fields, then most
// query parameters; then the one of the older service, and in a service the one that is listed first.
type Route struct {
	Host        string            `json:"host"`            // exact, "*.suffix", or "" for every host
	Path        string            `json:"path,omitempty"`  // prefix by whole segments; "" for all
	Exact       bool              `json:"exact,omitempty"` // Path is the whole path
	Match       *RouteMatch       `json:"match,omitempty"` // what a request must have besides
	Port        uint16            `json:"port,omitempty"`  // 0: the first HTTP port
	StripPrefix bool              `json:"stripPrefix,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"` // set on the request
	TLS         *RouteTLS         `json:"tls,omitempty"`     // nil: the defaults
	Policy      *RoutePolicy      `json:"policy,omitempty"`

	// Unknown is the route as it was told, where it says something that this program does not know. Nobody
	// may serve such a route: what is not understood may be what keeps strangers out. It is told and kept
	// as it came, for those who do know.
	Unknown json.RawMessage `json:"-"`
}

// RouteTLS says what the gateway asks of the connections that a route's requests come by.
type RouteTLS struct {
	// Redirect sends requests in the clear to HTTPS. Nil: where there is a certificate that strangers trust.
	Redirect *bool  `json:"redirect,omitempty"`
	HSTS     string `json:"hsts,omitempty"` // Strict-Transport-Security of answers by HTTPS; "": none
	// ClientCA are certificates, in PEM, of the authorities one of which has to vouch for clients (mutual
	// TLS). Nil: clients need none.
	ClientCA       []byte `json:"clientCA,omitempty"`
	ClientOptional bool   `json:"clientOptional,omitempty"` // those without are let in too, by no name
	// Passthrough leads connections by the name that their ClientHello asks for to the service as they are: it
	// ends TLS itself. Nothing else of a route than host and port can then be.
	Passthrough bool `json:"passthrough,omitempty"`
}

// RouteMatch is what a request must have for a route beyond host and path: all of it.
type RouteMatch struct {
	Methods []string          `json:"methods,omitempty"` // one of them
	Headers map[string]string `json:"headers,omitempty"` // fields by name, in any case, with exact values
	Query   map[string]string `json:"query,omitempty"`   // parameters with exact values
}

// RouteStatus is a route of a service, as the gateway has it.
type RouteStatus struct {
	Service ServiceID
	Route   Route
	Problem string // why it is not in force, or not all of it; "": it is
}

// RouteQuestion is a request that might come to the gateway.
type RouteQuestion struct {
	Method string
	Host   string
	Target string // path and query as a client spells them
	Header map[string]string
}

// RouteAnswer tells what the gateway would do with a request.
type RouteAnswer struct {
	Path      string        // as it is compared with routes
	Found     *RouteStatus  // nil: none
	Refused   string        // why the request is answered by the gateway itself; "": it reaches the service
	Port      uint16        // of the service
	Serving   []Weight      // releases that take requests; empty: any
	Endpoints []Endpoint    // that are listed, ready or not
	Others    []RouteBeside // of the same host, in the order in which they were looked at
	More      int           // further ones that are not listed
}

// RouteBeside is a route that does not have a request, and why.
type RouteBeside struct {
	RouteStatus
	Why string
}

// Policies says in words what the route does with a request besides leading it on.
func (r Route) Policies() []string {
	var all []string
	if r.PassesThrough() {
		all = append(all, "TLS passed through")
	}
	if r.StripPrefix {
		all = append(all, "strip "+r.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		all = append(all, "set "+name)
	}
	return append(all, r.Policy.Words()...)
}

// PassesThrough tells whether the route is for connections with TLS, which the service ends.
func (r Route) PassesThrough() bool { return r.TLS != nil && r.TLS.Passthrough }

// HostName gives the route's host in the one spelling by which hosts are compared.
func (r Route) HostName() string { return strings.TrimSuffix(strings.ToLower(r.Host), ".") }

// PathName gives the route's path likewise: "" for all, no slash at the end of a prefix.
func (r Route) PathName() string {
	if r.Exact {
		return r.Path
	}
	if path := strings.Trim(r.Path, "/"); path != "" {
		return "/" + path
	}
	return ""
}

// Claims names what the route asks for, once for each method: two routes with a claim in common want
// the same requests, and only one can have them.
func (r Route) Claims() []string {
	claim := r.HostName() + r.PathName()
	if r.Exact {
		claim += " exactly"
	} else {
		claim += "/"
	}
	if r.Match == nil {
		return []string{claim}
	}
	rest := ""
	for _, name := range sortedBy(r.Match.Headers, strings.ToLower) {
		rest += " " + strings.ToLower(name) + ": " + r.Match.Headers[name]
	}
	for _, name := range sortedBy(r.Match.Query, func(s string) string { return s }) {
		rest += " ?" + name + "=" + r.Match.Query[name]
	}
	if len(r.Match.Methods) == 0 {
		return []string{claim + rest}
	}
	var all []string
	for _, method := range slices.Sorted(slices.Values(r.Match.Methods)) {
		all = append(all, claim+" "+method+rest)
	}
	return slices.Compact(all)
}

func sortedBy[V any](m map[string]V, key func(string) string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return strings.Compare(key(a), key(b)) })
}
