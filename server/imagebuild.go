package server

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// build makes a service's image, unless the same was made before.
func (w *imageWork) build(ctx context.Context, name string, service maru.Service, key string) (maru.Image, error) {
	if image, ok := w.builtBefore(ctx, key, service.Build); ok && !w.req.Rebuild {
		w.progress(name, "build", "skipped", "")
		return image, nil
	}
	if w.deps.Builder == nil {
		return maru.Image{}, unsupported("builder")
	}
	w.progress(name, "build", "started", "")
	req, release, err := w.buildRequest(ctx, name, service, key)
	if err != nil {
		return maru.Image{}, err
	}
	defer release()
	image, err := w.deps.Builder.Build(ctx, req, func(p BuildProgress) {
		w.to.step(&maruv1.Progress{Service: name, Step: "build", State: "running", Message: p.Step, Log: p.Log})
	})
	if err != nil {
		w.progress(name, "build", "failed", err.Error())
		return maru.Image{}, err
	}
	w.progress(name, "build", "done", "")
	if err := w.remember(ctx, key, image); err != nil {
		w.log.WarnContext(ctx, "a build is not remembered", "service", w.scope.Service(name).String(), "error", err)
	}
	return image, nil
}

func (w *imageWork) buildRequest(ctx context.Context, name string, service maru.Service, key string) (_ BuildRequest, release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range releases {
			r()
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	checkout := func(folder string) (string, error) {
		if !isFolder(folder) {
			return folder, nil
		}
		id, err := w.sourceOf(folder)
		if err != nil {
			return "", err
		}
		dir, done, err := w.sources.Checkout(ctx, id)
		if err == nil {
			releases = append(releases, done)
		}
		return dir, err
	}
	b := *service.Build
	if b.Context, err = checkout(b.Context); err != nil {
		return BuildRequest{}, nil, err
	}
	b.Contexts = maps.Clone(b.Contexts)
	for _, key := range slices.Sorted(maps.Keys(b.Contexts)) {
		if b.Contexts[key], err = checkout(b.Contexts[key]); err != nil {
			return BuildRequest{}, nil, err
		}
	}
	if len(b.Platforms) == 0 && service.Platform != "" {
		b.Platforms = []string{service.Platform}
	}
	b.Tags = w.tags(ctx, service)
	registries := map[string]Credentials{}
	for host, c := range w.req.Registries {
		registries[host] = Credentials{c.GetUsername(), c.GetPassword()}
	}
	return BuildRequest{
		Service: w.scope.Service(name), Name: imageName(w.scope) + ":" + key[:tagLength], Build: b,
		Secrets: w.req.BuildSecrets[name].GetValues(), Volumes: volumeTargets(service), Registries: registries,
	}, release, nil
}

// tags are the further names of an image, which all apps of the machine see: only a caller who may do
// anything there can give them.
func (w *imageWork) tags(ctx context.Context, service maru.Service) []string {
	if c, _ := callerOf(ctx); c.Scope != (maru.Scope{}) {
		return nil
	}
	tags := slices.Clone(service.Build.Tags)
	if service.Image != "" && !strings.Contains(service.Image, "@") {
		tags = append(tags, service.Image)
	}
	return tags
}

// builtBefore finds the image of an earlier build of the same source in the same way, for any service
// of the app.
func (w *imageWork) builtBefore(ctx context.Context, key string, b *maru.Build) (maru.Image, bool) {
	if b.NoCache || b.Pull || !isFolder(b.Context) {
		return maru.Image{}, false
	}
	for _, context := range b.Contexts {
		if !isFolder(context) {
			return maru.Image{}, false
		}
	}
	builds, _, err := load[[]builtImage](ctx, w.deps.Store, buildsKey(w.scope))
	if err != nil {
		w.log.WarnContext(ctx, "builds made before are not known", "app", w.scope.String(), "error", err)
		return maru.Image{}, false
	}
	i := slices.IndexFunc(builds, func(b builtImage) bool { return b.Key == key })
	if i < 0 {
		return maru.Image{}, false
	}
	image, err := w.deps.Images.Image(ctx, builds[i].Image)
	return image, err == nil
}

// remember keeps the result of a build, so that the same need not be built again.
func (w *imageWork) remember(ctx context.Context, key string, image maru.Image) error {
	return update(ctx, w.deps.Store, buildsKey(w.scope), func(builds []builtImage) ([]builtImage, bool) {
		next := []builtImage{{Key: key, Image: image.Reference, At: time.Now().UTC()}}
		for _, b := range builds {
			if b.Key != key && len(next) < buildsKept {
				next = append(next, b)
			}
		}
		return next, true
	})
}

func buildsKey(scope maru.Scope) maru.Key { return maru.Key{Kind: kindBuild, Name: scope.String()} }

// find gives an image that is present. What is in this server's registry always is.
func (w *imageWork) find(ctx context.Context, reference string) (image maru.Image, own bool, err error) {
	if w.deps.Registry != nil {
		c, _ := callerOf(ctx)
		inside, own, err := w.deps.Registry.Image(ctx, reference, c.Scope)
		if err != nil {
			return maru.Image{}, own, err
		}
		if own {
			image, err = w.deps.Images.Image(ctx, inside)
			// The engine finds what has the digest under any name, and that may be another app's.
			if err == nil && strings.HasPrefix(inside, maru.RegistryHost+"/") && strings.Contains(inside, "@") && image.Reference != inside {
				err = maru.Errorf(maru.NotFound, "image %s is not here", inside)
			}
			if maru.KindOf(err) == maru.NotFound {
				err = maru.WithHint(maru.Errorf(maru.NotFound, "image %s is not in the registry here", reference), "push it first")
			}
			return image, true, err
		}
	}
	image, err = w.deps.Images.Image(ctx, reference)
	if err == nil && !w.owns(image.Reference) {
		// Its digest is what it was found by. Whoever may have it elsewhere pulls it.
		return maru.Image{}, false, maru.Errorf(maru.NotFound, "image %s is not here", reference)
	}
	return image, false, err
}

// owns tells whether an image is not another app's: what deploys and jobs built has the name of its app.
func (w *imageWork) owns(reference string) bool {
	if own := JobImage(w.scope.Project, w.scope.App); strings.HasPrefix(reference, jobImages) {
		return strings.HasPrefix(reference, own+"@")
	}
	if strings.HasPrefix(reference, BuiltImages) {
		parts := strings.Split(strings.TrimPrefix(reference, BuiltImages), "/")
		return parts[0] == repositoryPart(w.scope.Project) && strings.HasPrefix(parts[len(parts)-1], repositoryPart(w.scope.App)+"@")
	}
	return !strings.HasPrefix(reference, maru.RegistryHost+"/")
}

// pull gives a service's image from a registry, as its pull policy says.
func (w *imageWork) pull(ctx context.Context, name string, service maru.Service) (maru.Image, error) {
	image, own, err := w.find(ctx, service.Image)
	switch {
	case own, err != nil && maru.KindOf(err) != maru.NotFound:
		return image, err
	case err == nil && service.Pull != "always":
		return image, nil
	case err != nil && service.Pull == "never":
		return maru.Image{}, maru.WithHint(maru.Errorf(maru.NotFound, "image %s is not here, and pull_policy says never to fetch it", service.Image),
			"bring it with `maru image load` or `maru image pull`")
	}
	w.progress(name, "pull", "started", service.Image)
	login := w.req.Registries[registryOf(service.Image)]
	image, err = w.deps.Images.Pull(ctx, service.Image,
		maru.PullOptions{Platform: service.Platform, Username: login.GetUsername(), Password: login.GetPassword()},
		func(p maru.PullProgress) {
			w.to.step(&maruv1.Progress{Service: name, Step: "pull", State: "running", Message: service.Image, Done: p.Done, Total: p.Total})
		})
	if err != nil {
		w.progress(name, "pull", "failed", err.Error())
		return maru.Image{}, err
	}
	w.progress(name, "pull", "done", service.Image)
	return image, nil
}

// registryOf gives the host that an image comes from; what names none is Docker Hub's.
func registryOf(reference string) string {
	first, _, found := strings.Cut(reference, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first
	}
	return "docker.io"
}
