package registry

import (
	"regexp"
	"strings"

	"github.com/marucloud/maru"
)

// maxName is the length of a repository's name that all clients take, with a host before it.
const maxName = 255

var (
	nameForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// name is a repository's name.
type name struct {
	written string         // as the client writes it
	key     string         // as the engine knows it: PROJECT/APP, or PROJECT/APP/NAME
	scope   maru.Scope     // whose it is; of what people push without an environment
	service maru.ServiceID // whose releases are in it; zero for what people push
}

// releases tells whether the repository is that of a service's releases.
func (n name) releases() bool { return n.service != maru.ServiceID{} }

// parseName reads a name; Invalid.
func parseName(text string) (name, error) {
	parts := strings.Split(text, "/")
	if len(text) > maxName || !nameForm.MatchString(text) || len(parts) > 4 {
		return name{}, maru.WithHint(maru.Errorf(maru.Invalid, "%q is no name of a repository", text),
			"it looks like APP, APP/NAME or PROJECT/APP/NAME, or for releases PROJECT/ENVIRONMENT/APP/SERVICE")
	}
	n := name{written: text}
	switch len(parts) {
	case 1, 2:
		n.scope = maru.Scope{Project: maru.DefaultProject, App: parts[0]}
		n.key = maru.DefaultProject + "/" + text
	case 3:
		n.scope = maru.Scope{Project: parts[0], App: parts[1]}
		n.key = text
	case 4:
		n.scope = maru.Scope{Project: parts[0], Environment: parts[1], App: parts[2]}
		n.service = n.scope.Service(parts[3])
	}
	for _, part := range parts[:min(len(parts), 3)] {
		if err := maru.CheckName("repository", part); err != nil {
			return name{}, err
		}
	}
	return n, nil
}

// shortName gives the shortest name that a client may write for an engine's.
func shortName(key string) string { return strings.TrimPrefix(key, maru.DefaultProject+"/") }

// digestForm is that of the digests that are kept. The specification wants this algorithm of every registry.
var digestForm = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)

func checkDigest(digest string) error {
	if !digestForm.MatchString(digest) {
		return problem("DIGEST_INVALID", maru.WithHint(maru.Errorf(maru.Invalid, "%q is no digest that is kept here", digest), "it looks like sha256: and 64 of 0-9 and a-f"))
	}
	return nil
}
