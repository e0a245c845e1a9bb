package table

import (
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Limited tells whether the caller, nil for the gateway, may make some calls only, by HTTP.
func (s *State) Limited(caller *Service) bool {
	return s.AllowCalls != nil && caller.isNot(s.Service) && len(s.AllowCalls[callerName(caller)]) > 0
}

func (s *Service) isNot(id maru.ServiceID) bool { return s == nil || s.ID != id }

func callerName(caller *Service) string {
	if caller == nil {
		return Gateway
	}
	return caller.ID.Service
}

// Permits tells whether a caller that is [Allowed] may make a call with the method to the path, which is
// decoded, of a target, which is not. A path that may mean another one to the service is not permitted to
// who is limited by path.
func (s *State) Permits(caller *Service, method, path, target string) bool {
	if !s.Limited(caller) {
		return true
	}
	return slices.ContainsFunc(s.AllowCalls[callerName(caller)], func(r maru.CallRule) bool {
		return Matches(r, method, path) && (len(r.Paths) == 0 || plainPath(path, target))
	})
}

// Matches tells whether a rule is for a call with the method to the path.
func Matches(r maru.CallRule, method, path string) bool {
	return (len(r.Methods) == 0 || slices.Contains(r.Methods, method)) &&
		(len(r.Paths) == 0 || slices.ContainsFunc(r.Paths, func(p string) bool { return below(path, p) }))
}

// below tells whether a path is the prefix or below it, by whole segments.
func below(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimRight(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// plainPath tells whether a path means itself to every server: none of its segments is empty or leads up, with
// or without parameters, and no slash is encoded.
func plainPath(path, target string) bool {
	raw, _, _ := strings.Cut(target, "?")
	if strings.Contains(path, `\`) || strings.Count(raw, "/") != strings.Count(path, "/") {
		return false
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/") {
		name, _, _ := strings.Cut(segment, ";")
		if name == "." || name == ".." || name == "" && path != "/" {
			return false
		}
	}
	return true
}
