package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// shortestKey is of what a key must have at least to be no guess, in bytes.
const shortestKey = 16

// AuthSecrets are the secrets that the traffic of a service needs, by key.
func AuthSecrets(v ServiceView) map[string]maru.SecretVersion {
	r, _ := v.main()
	var all map[string]maru.SecretVersion
	for _, route := range r.Spec.Routes {
		if p := route.Policy; p != nil && p.Auth != nil && p.Auth.Secret != "" {
			put(&all, p.Auth.Secret, r.Secrets[p.Auth.Secret])
		}
	}
	return all
}

// WithCredentials fills in what data planes need of secrets, whose values are by key. Without a value
// nobody is let in.
func WithCredentials(routes []maru.Route, values map[string][]byte) []maru.Route {
	out := slices.Clone(routes)
	for i, route := range out {
		if route.Policy == nil || route.Policy.Auth == nil || route.Policy.Auth.Secret == "" || route.Policy.Auth.Kind == maru.LoginAuth {
			continue
		}
		policy, auth := *route.Policy, *route.Policy.Auth
		auth.Credentials = credentials(auth.Kind, string(values[auth.Secret]))
		policy.Auth = &auth
		out[i].Policy = &policy
	}
	return out
}

// InTheClear gives the secrets that data planes have to know as they are, by key; nil for none.
func InTheClear(routes []maru.Route, values map[string][]byte) map[string]string {
	var all map[string]string
	for _, route := range routes {
		if p := route.Policy; p != nil && p.Auth != nil && p.Auth.Kind == maru.LoginAuth && values[p.Auth.Secret] != nil {
			put(&all, p.Auth.Secret, strings.TrimSpace(string(values[p.Auth.Secret])))
		}
	}
	return all
}

// credentials reads a secret's lines. Empty ones, those that begin with "#", and those that say nothing of
// use are left out.
func credentials(kind maru.AuthKind, text string) []maru.Credential {
	var all []maru.Credential
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if c, ok := credential(kind, line); ok {
			all = append(all, c)
		}
	}
	return all
}

func credential(kind maru.AuthKind, line string) (maru.Credential, bool) {
	if kind == maru.BasicAuth {
		user, hash, ok := strings.Cut(line, ":")
		return maru.Credential{User: user, Hash: hash}, ok && user != "" && strings.HasPrefix(hash, "$2")
	}
	fields := strings.Fields(line)
	if len(fields) != 2 || len(fields[1]) < shortestKey {
		return maru.Credential{}, false
	}
	sum := sha256.Sum256([]byte(fields[1]))
	return maru.Credential{User: fields[0], Hash: hex.EncodeToString(sum[:])}, true
}
