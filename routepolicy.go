package maru

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// RoutePolicy is what the gateway does with a route's requests and their answers besides leading them on.
type RoutePolicy struct {
	Redirect *Redirect   `json:"redirect,omitempty"` // nothing reaches the service
	Rewrite  *Rewrite    `json:"rewrite,omitempty"`
	Request  *HeaderEdit `json:"request,omitempty"`  // of what the service gets
	Response *HeaderEdit `json:"response,omitempty"` // of what the client gets
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
	slices.Sort(all)
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
