package table

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// rule is one of a route's claims, made ready for requests.
type rule struct {
	claim string
	match *Match
	rank  int // among those of one path: the higher comes first
	since int64
	index int // in its service's list

	method         string // "": any
	headers, query []message.Field
}

// How much the parts of a match weigh against each other: any of the first is more than all of the next.
const (
	rankUnknown = 1 << 48 // what is not understood might weigh more than all else
	rankMethod  = 1 << 32
	rankHeader  = 1 << 16
)

// order sorts rules of one path, the one that is asked first to the front.
func order(a, b rule) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.since, b.since),
		strings.Compare(a.match.Service.ID.String(), b.match.Service.ID.String()), cmp.Compare(a.index, b.index))
}

// rulesOf gives one rule for each of the route's claims.
func rulesOf(m *Match, since time.Time, index int) []rule {
	claims, match := m.Route.Claims(), m.Route.Match
	plain := rule{match: m, since: since.UnixNano(), index: index}
	if m.Route.Unknown != nil {
		plain.rank = rankUnknown
	}
	if match == nil {
		plain.claim = claims[0]
		return []rule{plain}
	}
	plain.headers, plain.query = fieldsOf(match.Headers), fieldsOf(match.Query)
	plain.rank += rankHeader*len(plain.headers) + len(plain.query)
	if len(match.Methods) == 0 {
		plain.claim = claims[0]
		return []rule{plain}
	}
	methods := slices.Compact(slices.Sorted(slices.Values(match.Methods)))
	all := make([]rule, len(methods))
	for i, method := range methods {
		all[i] = plain
		all[i].claim, all[i].method, all[i].rank = claims[i], method, plain.rank+rankMethod
	}
	return all
}

func fieldsOf(values map[string]string) []message.Field {
	var all []message.Field
	for name, value := range values {
		all = append(all, message.Field{Name: name, Value: value})
	}
	slices.SortFunc(all, func(a, b message.Field) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// takes tells whether a request, whose host and path fit, has all else.
func (u *rule) takes(r *message.Request) bool { return u.match.Route.Match == nil || u.lacks(r) == "" }

// lacks says what the request lacks, or "".
func (u *rule) lacks(r *message.Request) string {
	if u.method != "" && u.method != r.Method {
		return "the method is not " + u.method
	}
	for _, f := range u.headers {
		if !hasField(r.Header, f) {
			return "it has no header " + f.Name + ": " + f.Value
		}
	}
	for _, f := range u.query {
		if value, ok := parameter(r.Target, f.Name); !ok || value != f.Value {
			return "it has no query parameter " + f.Name + "=" + f.Value
		}
	}
	return ""
}

func hasField(h message.Header, f message.Field) bool {
	for value := range h.Values(f.Name) {
		if value == f.Value {
			return true
		}
	}
	return false
}

// parameter gives the first of a target's query parameters with that name.
func parameter(target, name string) (string, bool) {
	_, query, _ := strings.Cut(target, "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if unescaped(key) == name {
			return unescaped(value), true
		}
	}
	return "", false
}

func unescaped(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// asked is something that a route asks for.
type asked struct {
	route maru.Route
	name  string
}

// claimsOf gives all that routes ask for.
func claimsOf(routes []maru.Route) []asked {
	var all []asked
	for _, r := range routes {
		for _, name := range r.Claims() {
			all = append(all, asked{r, name})
		}
	}
	return all
}
