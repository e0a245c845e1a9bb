package registry

import (
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/marucloud/maru"
)

// Image gives the engine's name of an image that is in this registry, for a reference as compose files have it,
// so that it need not be pulled from itself. It is not own when the host is another; the engine's own name for it
// is no way around. The scope is that of who
// asks, whose empty parts match all; Denied when it does not reach the repository, NotFound and Invalid for what
// can't be there.
func (h *Handler) Image(ctx context.Context, ref string, scope maru.Scope) (image string, own bool, err error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || reference.Domain(named) != maru.RegistryHost && !slices.Contains(h.cfg.Hosts, reference.Domain(named)) {
		return "", false, nil //nolint:nilerr // whoever pulls it says what is wrong
	}
	n, err := parseName(reference.Path(named))
	if err != nil {
		return "", true, err
	}
	if err := mayPull(maru.Token{Name: "of who deploys", Role: maru.RoleRead, Scope: scope}, n); err != nil {
		return "", true, maru.WithHint(maru.Errorf(maru.Denied, "image %s is of another app", ref), "push it to a repository of this app, or deploy with a token for both")
	}
	suffix := ":" + tagOf(named)
	if digested, ok := named.(reference.Digested); ok {
		suffix = "@" + digested.Digest().String()
	}
	if !n.releases() {
		return maru.RegistryHost + "/" + n.key + suffix, true, nil
	}
	releases, err := h.releases.Releases(ctx, n.service.Scope, n.service.Service)
	if err != nil {
		return "", true, err
	}
	for _, r := range releases {
		if suffix == ":"+maru.Itoa(r.Number) || strings.HasSuffix(r.Image, suffix) {
			return r.Image, true, nil
		}
	}
	return "", true, maru.Errorf(maru.NotFound, "image %s is of no release that is kept", ref)
}

func tagOf(named reference.Named) string {
	if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		return tagged.Tag()
	}
	return ""
}
