package policy

import (
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// rewrite changes what the service is asked for.
type rewrite struct {
	host string
	path replacement
}

func newRewrite(r *maru.Rewrite, prefix string) (step, error) {
	if r == nil {
		return nil, nil
	}
	path, err := newReplacement(r.Path, r.Prefix, prefix)
	return rewrite{r.Host, path}, err
}

func (s rewrite) take(x *Exchange) *Answer {
	x.Out.Host = s.host
	x.Out.Target = s.path.target(x.Request)
	return nil
}

// replacement is what stands in place of a request's path, or of its beginning.
type replacement struct {
	whole  string // "": not the whole path
	prefix string // of the request's path
	by     string // in place of it
	begins bool
}

func newReplacement(path string, by *string, prefix string) (replacement, error) {
	switch {
	case path != "" && by != nil:
		return replacement{}, maru.Errorf(maru.Invalid, "a path and a prefix can't both be replaced")
	case path != "" && path[0] != '/', by != nil && *by != "" && (*by)[0] != '/':
		return replacement{}, maru.Errorf(maru.Invalid, "a path begins with a slash")
	case by != nil:
		return replacement{prefix: prefix, by: strings.TrimRight(*by, "/"), begins: true}, nil
	}
	return replacement{whole: path}, nil
}

// target gives the request's target with its path replaced, or "" where nothing is.
func (p replacement) target(r *message.Request) string {
	if r.Target == "*" {
		return ""
	}
	if p.whole != "" {
		_, query, found := strings.Cut(r.Target, "?")
		if !found {
			return p.whole
		}
		return p.whole + "?" + query
	}
	if !p.begins {
		return ""
	}
	rest := message.CutPrefix(r.Target, r.Path, p.prefix)
	if p.by != "" && r.Path == p.prefix {
		rest = rest[1:]
	}
	return p.by + rest
}
