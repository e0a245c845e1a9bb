package build

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/marucloud/maru"
)

// Request says what to build.
type Request struct {
	// Name is the reference to give the image, with or without a tag, such as "shop-web". It is
	// completed as everywhere: "docker.io/library/shop-web:latest". Build.Tags are further ones.
	Name string `json:"name"`
	// Build is what the compose file says. Context is a folder on the builder's machine, absolute, or
	// a Git URL; so are the values of Contexts, which may also be "docker-image://REFERENCE". A folder
	// is read only, and must not change during the build.
	Build maru.Build `json:"build"`
	// Secrets are the values of Build.Secrets by their ID. They are held in memory and reach only the
	// build steps that mount them.
	Secrets map[string][]byte `json:"secrets,omitempty"`
	// Volumes are the paths where the service mounts volumes. An image of a Go program gets these
	// folders, owned by its user, so that a new volume can be written to. Dockerfile builds ignore them.
	Volumes []string `json:"volumes,omitempty"`
	// Credentials are for registries that base images come from, by host ("docker.io" for Docker Hub).
	Credentials map[string]Credentials `json:"credentials,omitempty"`
	// Epoch replaces the times in the image, so that the same source gives the same digest. When it is
	// zero, images of Go programs get 1970 and those of Dockerfiles the times of the build.
	Epoch time.Time `json:"epoch,omitzero"`
}

// Credentials are a user's name and password, or token, at a registry.
type Credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Builder makes images.
type Builder interface {
	// Build makes the image and gives it by digest; it is then in the image store, unpacked. Progress
	// is called from one goroutine at a time, in order, and may be nil. A step that fails gives a
	// [StepError] of kind Invalid. Building the same again is cheap and gives the same image.
	Build(ctx context.Context, req Request, progress func(Event)) (maru.Image, error)
	// Prune drops cached results that were used longest ago until at most keep bytes are left, and
	// tells how many bytes it freed.
	Prune(ctx context.Context, keep int64) (int64, error)
}

// Names gives the completed references of the image that the request asks for.
func (r Request) Names() ([]string, error) {
	var names []string
	for _, name := range append([]string{r.Name}, r.Build.Tags...) {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "image name %q: %w", name, err)
		}
		if _, digested := named.(reference.Digested); digested {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "image name %q has a digest", name),
				"name what is built without a digest: the build gives it one")
		}
		names = append(names, reference.TagNameOnly(named).String())
	}
	return names, nil
}

// Check tells whether the request is complete. The error is of kind Invalid.
func (r Request) Check() error {
	if _, err := r.Names(); err != nil {
		return err
	}
	b := r.Build
	if !IsRemote(b.Context) && !filepath.IsAbs(b.Context) {
		return maru.Errorf(maru.Invalid, "build context %q is neither an absolute folder nor a Git URL", b.Context)
	}
	if b.Go != nil && (b.Dockerfile != "" || b.DockerfileInline != "") {
		return maru.Errorf(maru.Invalid, "the build of %s has both a Dockerfile and a Go program", r.Name)
	}
	if b.Dockerfile != "" && !filepath.IsLocal(filepath.FromSlash(b.Dockerfile)) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "the Dockerfile %s is not within the build context", b.Dockerfile),
			"move it into the context, or write it into the compose file as dockerfile_inline")
	}
	if b.Go != nil && IsRemote(b.Context) {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "a Go program is built from a folder, not from %s", b.Context),
			"check the source out, or give it a Dockerfile")
	}
	for name, value := range b.Contexts {
		if !IsRemote(value) && !strings.HasPrefix(value, ImageContext) && !filepath.IsAbs(value) {
			return maru.Errorf(maru.Invalid, "additional context %s: %q is neither an absolute folder, nor a Git URL, nor %sNAME",
				name, value, ImageContext)
		}
	}
	for _, s := range b.Secrets {
		if _, ok := r.Secrets[s.ID]; !ok {
			return maru.Errorf(maru.Invalid, "the value of build secret %s is missing", s.ID)
		}
	}
	return nil
}

// ImageContext begins an additional context that is an image.
const ImageContext = "docker-image://"

// IsRemote tells whether a build context is fetched by the builder, rather than a folder.
func IsRemote(context string) bool {
	for _, prefix := range []string{"https://", "http://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(context, prefix) {
			return true
		}
	}
	return false
}
