package maru

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RoutePolicy is what the gateway does with a route's requests and their answers besides leading them on.
type RoutePolicy struct {
	Redirect *Redirect   `json:"redirect,omitempty"` // nothing reaches the service
	Rewrite  *Rewrite    `json:"rewrite,omitempty"`
	Request  *HeaderEdit `json:"request,omitempty"`  // of what the service gets
	Response *HeaderEdit `json:"response,omitempty"` // of what the client gets

	CORS        *CORS         `json:"cors,omitempty"`
	Compress    *Compress     `json:"compress,omitempty"`
	GRPCWeb     bool          `json:"grpcWeb,omitempty"` // calls by gRPC-Web are made calls by gRPC
	Maintenance *Maintenance  `json:"maintenance,omitempty"`
	Addresses   *AddressList  `json:"addresses,omitempty"`
	MaxBody     int64         `json:"maxBody,omitempty"` // of a request, in bytes; 0: any
	Timeout     time.Duration `json:"timeout,omitempty"` // for one request; 0: the service's

	Quotas      []Quota           `json:"quotas,omitempty"` // all of which count
	Limits      []RateLimit       `json:"limits,omitempty"` // all of which count
	Concurrency *ConcurrencyLimit `json:"concurrency,omitempty"`
	Auth        *Auth             `json:"auth,omitempty"`
}

// Auth lets in only those who prove who they are: by a name with a password, a key or a token. The service
// learns who it is from the header X-Maru-User, which nobody else can set.
type Auth struct {
	Kind   AuthKind `json:"kind"`
	Secret string   `json:"secret,omitempty"` // key in App.Secrets: a line for each who is let in
	Header string   `json:"header,omitempty"` // that has the key; "": X-Api-Key, or a bearer token
	Realm  string   `json:"realm,omitempty"`  // of the question for a password

	// Of tokens:
	Issuer    string   `json:"issuer,omitempty"`
	Audiences []string `json:"audiences,omitempty"` // one of which a token must be for; empty: any
	Keys      string   `json:"keys,omitempty"`      // URL of the issuer's JSON Web Key Set; "": the issuer tells it (OpenID Connect Discovery)
	Claim     string   `json:"claim,omitempty"`     // that says who it is; "": sub

	Forward *ForwardAuth `json:"forward,omitempty"` // of forward
	Login   *Login       `json:"login,omitempty"`   // of oidc

	// Credentials are what of the secret a data plane needs, made of it by the control plane.
	Credentials []Credential `json:"credentials,omitempty"`
}

// AuthKind is how clients prove who they are.
type AuthKind string

// The kinds.
const (
	BasicAuth AuthKind = "basic" // the secret's lines are NAME:HASH, with bcrypt hashes, as htpasswd -B writes them
	KeyAuth   AuthKind = "keys"  // the secret's lines are NAME KEY
	TokenAuth AuthKind = "jwt"   // JSON Web Tokens that an issuer signed

	ForwardedAuth AuthKind = "forward" // somebody else is asked
	LoginAuth     AuthKind = "oidc"    // people log in at the issuer, with a browser
)

// Login has people log in at Auth.Issuer (OpenID Connect Core 1.0, by authorization code with PKCE), and keeps
// who they are in an encrypted cookie. The service learns it from the headers X-Maru-User, X-Maru-Email and
// X-Maru-Groups. Auth.Secret is the client's secret; without one the client is a public one.
//
// Who may come in has one of Emails, one of Groups, and for each of Claims one of its values; of what is
// empty nothing is asked.
type Login struct {
	Client  string              `json:"client"`            // the gateway's ID at the issuer
	Scopes  []string            `json:"scopes,omitempty"`  // besides openid
	Path    string              `json:"path,omitempty"`    // below the route's, of the gateway's own pages callback and logout; "": /.auth
	Session time.Duration       `json:"session,omitempty"` // until one has to log in again; 0: 12 h
	Emails  []string            `json:"emails,omitempty"`  // verified ones; "*@example.com" for all of a domain
	Groups  []string            `json:"groups,omitempty"`  // of the claim groups
	Claims  map[string][]string `json:"claims,omitempty"`  // by name, or by a path of names with dots between
}

// LongestSession is the longest that a login can hold.
const LongestSession = 7 * 24 * time.Hour

// ForwardAuth asks somebody else whether a request is let in: with GET and the request's header, but without
// its body. What was asked for is told by X-Forwarded-Method, -Proto, -Host, -Uri and -For. An answer of 2xx
// lets the request in; one of 3xx or 4xx is the client's; anything else, or none, is a failure.
type ForwardAuth struct {
	Service string        `json:"service,omitempty"` // of the app; "": URL
	Port    uint16        `json:"port,omitempty"`    // of the service; 0: its first HTTP port
	Path    string        `json:"path,omitempty"`    // at the service, with a query maybe; "": /
	URL     string        `json:"url,omitempty"`
	Send    []string      `json:"send,omitempty"`    // fields of the request that it gets; empty: all
	Take    []string      `json:"take,omitempty"`    // fields of its answer that the service gets, instead of the client's
	User    string        `json:"user,omitempty"`    // field of its answer that says who it is; "": none does
	Timeout time.Duration `json:"timeout,omitempty"` // 0: 5 s
	Open    bool          `json:"open,omitempty"`    // a failure lets the request in, by no name
}

func (a *Auth) words() string {
	if f := a.Forward; f != nil {
		if f.Service != "" {
			return "service " + f.Service
		}
		return f.URL
	}
	return string(a.Kind)
}

// Credential is how someone is known. A password or key can't be found out from it.
type Credential struct {
	User string `json:"user"`
	Hash string `json:"hash"` // bcrypt's of a password, or SHA-256 of a key in hexadecimal
}

// SecretKeys are the secrets that a service uses, by their keys in App.Secrets, sorted.
func (s Service) SecretKeys() []string {
	var keys []string
	for _, f := range s.Secrets {
		keys = append(keys, f.Source)
	}
	for _, r := range s.Routes {
		if r.Policy != nil && r.Policy.Auth != nil && r.Policy.Auth.Secret != "" {
			keys = append(keys, r.Policy.Auth.Secret)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// RateLimit bounds how often clients may come. Each proxy counts for itself.
type RateLimit struct {
	Requests int           `json:"requests"` // in each Per, evenly
	Per      time.Duration `json:"per"`
	Burst    int           `json:"burst,omitempty"` // that may come at once; 0: as many as Requests
	By       LimitBy       `json:"by,omitzero"`     // zero: by address
}

// Quota bounds how many requests each of those who are let in may send in a period of the calendar, in UTC. What is
// counted outlives a proxy's restart, and all proxies of a machine count together.
type Quota struct {
	Requests int64     `json:"requests"`
	Per      QuotaTerm `json:"per"`
	By       string    `json:"by,omitempty"` // user, token; "": user
}

// QuotaTerm is a period of the calendar.
type QuotaTerm string

// The periods.
const (
	HourQuota  QuotaTerm = "hour"
	DayQuota   QuotaTerm = "day"
	MonthQuota QuotaTerm = "month"
)

// ConcurrencyLimit bounds how many requests are under way at once.
type ConcurrencyLimit struct {
	Requests int     `json:"requests"`
	By       LimitBy `json:"by,omitzero"` // zero: all together
}

// LimitBy says what tells clients apart. One that lacks it is told apart by address.
type LimitBy struct {
	What   string `json:"what,omitempty"`   // address (of IPv6 its first 64 bits), user, token, or all together
	Header string `json:"header,omitempty"` // the first field of that name
}

func (b LimitBy) words(otherwise string) string {
	switch {
	case b.Header != "":
		return "header " + b.Header
	case b.What != "":
		return b.What
	}
	return otherwise
}

// CORS says which other sites' pages may use the answers in a browser.
type CORS struct {
	Origins     []string      `json:"origins"`               // such as https://example.com; "https://*.example.com"; "*": all, without credentials
	Methods     []string      `json:"methods,omitempty"`     // "*": all; empty: GET, HEAD, POST
	Headers     []string      `json:"headers,omitempty"`     // of requests; "*": all
	Expose      []string      `json:"expose,omitempty"`      // of answers
	Credentials bool          `json:"credentials,omitempty"` // with cookies and the like
	MaxAge      time.Duration `json:"maxAge,omitempty"`      // how long a browser remembers it
}

// Compress has answers compressed for clients that understand it.
type Compress struct {
	Min   int64    `json:"min,omitempty"`   // bytes of the shortest answer that is; 0: 1 KiB
	Types []string `json:"types,omitempty"` // media types besides those of text
}

// Maintenance turns requests away with a page.
type Maintenance struct {
	Text   string         `json:"text,omitempty"`
	Except []netip.Prefix `json:"except,omitempty"` // clients that are let in
}

// AddressList says which clients are let in: all but those in Deny, and only those in Allow where it
// names any.
type AddressList struct {
	Allow []netip.Prefix `json:"allow,omitempty"`
	Deny  []netip.Prefix `json:"deny,omitempty"`
}

// Redirect sends clients elsewhere. What it does not say stays as in the request.
type Redirect struct {
	Scheme string  `json:"scheme,omitempty"` // http, https
	Host   string  `json:"host,omitempty"`
	Port   uint16  `json:"port,omitempty"`   // 0: the request's; with another scheme that scheme's own
	Path   string  `json:"path,omitempty"`   // in place of the whole path
	Prefix *string `json:"prefix,omitempty"` // in place of the route's path
	Status int     `json:"status,omitempty"` // 301, 302, 303, 307, 308; 0: 302
}

// Rewrite changes what the service is asked for. The query stays.
type Rewrite struct {
	Host   string  `json:"host,omitempty"`
	Path   string  `json:"path,omitempty"`   // in place of the whole path
	Prefix *string `json:"prefix,omitempty"` // in place of the route's path
}

// HeaderEdit changes a header: first what is removed, then what is set, then what is added.
type HeaderEdit struct {
	Remove []string          `json:"remove,omitempty"`
	Set    map[string]string `json:"set,omitempty"`
	Add    map[string]string `json:"add,omitempty"`
}

// Words says in words what the policy does, part by part.
func (p *RoutePolicy) Words() []string {
	if p == nil {
		return nil
	}
	var all []string
	if r := p.Redirect; r != nil {
		all = append(all, r.words())
	}
	if r := p.Rewrite; r != nil {
		all = append(all, r.words())
	}
	for what, edit := range map[string]*HeaderEdit{"request": p.Request, "response": p.Response} {
		all = append(all, edit.words(what)...)
	}
	return slices.Sorted(slices.Values(append(all, p.doorWords()...)))
}

// doorWords says what becomes of requests before they reach the service.
func (p *RoutePolicy) doorWords() []string {
	var all []string
	if c := p.CORS; c != nil {
		all = append(all, "cors for "+strings.Join(c.Origins, " "))
	}
	if p.Compress != nil {
		all = append(all, "compress")
	}
	if p.GRPCWeb {
		all = append(all, "grpc-web")
	}
	if p.Maintenance != nil {
		all = append(all, "maintenance")
	}
	if a := p.Addresses; a != nil {
		all = append(all, fmt.Sprintf("addresses: %d allowed, %d denied", len(a.Allow), len(a.Deny)))
	}
	if p.MaxBody > 0 {
		all = append(all, fmt.Sprintf("body up to %d bytes", p.MaxBody))
	}
	for _, q := range p.Quotas {
		all = append(all, fmt.Sprintf("quota %d in a %s by %s", q.Requests, q.Per, cmp.Or(q.By, "user")))
	}
	for _, l := range p.Limits {
		all = append(all, fmt.Sprintf("limit %d in %s by %s", l.Requests, l.Per, l.By.words("address")))
	}
	if p.Auth != nil {
		all = append(all, "auth by "+p.Auth.words())
	}
	if c := p.Concurrency; c != nil {
		all = append(all, fmt.Sprintf("%d at once by %s", c.Requests, c.By.words("all")))
	}
	if p.Timeout > 0 {
		all = append(all, fmt.Sprintf("timeout %s", p.Timeout))
	}
	return all
}

func (r *Redirect) words() string {
	to := strings.TrimSpace(r.Scheme + " " + r.Host + replacement(r.Path, r.Prefix))
	return fmt.Sprintf("redirect %d to %s", r.Code(), to)
}

// Code gives the status that a redirect is answered with.
func (r *Redirect) Code() int {
	if r.Status == 0 {
		return 302
	}
	return r.Status
}

func (r *Rewrite) words() string { return "rewrite to " + r.Host + replacement(r.Path, r.Prefix) }

func replacement(path string, prefix *string) string {
	if prefix != nil {
		return *prefix + "/*"
	}
	return path
}

func (e *HeaderEdit) words(what string) []string {
	if e == nil {
		return nil
	}
	var all []string
	for _, name := range e.Remove {
		all = append(all, what+" without "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		all = append(all, what+" with "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Add)) {
		all = append(all, what+" with one more "+name)
	}
	return all
}
