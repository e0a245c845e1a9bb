package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// parallelImages is how many images are pulled or built at once.
const parallelImages = 4

// What begins the names of images that deploys and jobs build.
const (
	BuiltImages = "maru.internal/"
	jobImages   = "jobs.maru.internal/"
)

// buildsKept is how many results of an app's builds are remembered.
const buildsKept = 200

// tagLength is how much of a build's key tags its image.
const tagLength = 16

// builtImage is the result of a build.
type builtImage struct {
	Key   string    `json:"key"` // names the source and how it was built
	Image string    `json:"image"`
	At    time.Time `json:"at"`
}

// imageWork finds the images that the services of one deploy run: it pulls, builds, or sees that
// nothing is to be done.
type imageWork struct {
	*Server
	scope maru.Scope
	req   *maruv1.DeployRequest
	to    *report

	pinned map[string]string // by service: what runs, whatever the file says; nil: what that says

	mu    sync.Mutex
	tasks map[string]*imageTask // what is the same for several services is done once
}

type imageTask struct {
	done  chan struct{}
	image maru.Image
	err   error
}

func newImageWork(s *Server, scope maru.Scope, req *maruv1.DeployRequest, to *report) *imageWork {
	return &imageWork{Server: s, scope: scope, req: req, to: to, tasks: map[string]*imageTask{}}
}

// resolve gives each service's image, which is then present.
func (w *imageWork) resolve(ctx context.Context, services map[string]maru.Service) (map[string]maru.Image, error) {
	images := make(map[string]maru.Image, len(services))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelImages)
	// Those that build come first: others wait for the images that they make.
	for _, name := range buildersFirst(services) {
		group.Go(func() error {
			image, err := w.one(ctx, name, services)
			if err != nil {
				return maru.Errorf(maru.KindOf(err), "service %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			images[name] = image
			return nil
		})
	}
	return images, group.Wait()
}

// resolveMounts makes the images that services mount present, and gives the services with the digests of
// these in the place of the names.
func (w *imageWork) resolveMounts(ctx context.Context, services map[string]maru.Service) (map[string]maru.Service, error) {
	return withMounts(services, func(name string, m maru.Mount, service maru.Service) (string, error) {
		image, err := w.once(ctx, "pull "+m.Source+" "+service.Platform, func() (maru.Image, error) {
			return w.pull(ctx, name, maru.Service{Image: m.Source, Platform: service.Platform})
		})
		if err != nil {
			return "", maru.Errorf(maru.KindOf(err), "service %s mounts an image: %w", name, err)
		}
		return image.Reference, nil
	})
}

// presentMounts is resolveMounts for what is there already; the rest stays as it is.
func (w *imageWork) presentMounts(ctx context.Context, services map[string]maru.Service) (map[string]maru.Service, error) {
	return withMounts(services, func(_ string, m maru.Mount, _ maru.Service) (string, error) {
		image, _, err := w.find(ctx, m.Source)
		if maru.KindOf(err) == maru.NotFound {
			return m.Source, nil
		}
		return image.Reference, err
	})
}

// withMounts gives the services with other sources of the images that they mount.
func withMounts(services map[string]maru.Service, source func(name string, m maru.Mount, service maru.Service) (string, error)) (map[string]maru.Service, error) {
	changed := make(map[string]maru.Service, len(services))
	for _, name := range slices.Sorted(maps.Keys(services)) {
		service := services[name]
		service.Container.Mounts = slices.Clone(service.Container.Mounts)
		for i, m := range service.Container.Mounts {
			if m.Kind != maru.ImageMount {
				continue
			}
			var err error
			if service.Container.Mounts[i].Source, err = source(name, m, service); err != nil {
				return nil, err
			}
		}
		changed[name] = service
	}
	return changed, nil
}

func buildersFirst(services map[string]maru.Service) []string {
	names := slices.Sorted(maps.Keys(services))
	slices.SortStableFunc(names, func(a, b string) int {
		switch builds := func(name string) bool { return services[name].Build != nil }; {
		case builds(a) == builds(b):
			return 0
		case builds(a):
			return -1
		}
		return 1
	})
	return names
}

func (w *imageWork) one(ctx context.Context, name string, services map[string]maru.Service) (maru.Image, error) {
	service := services[name]
	if w.pinned != nil {
		return w.pin(ctx, name)
	}
	if service.Build != nil {
		key, err := w.buildKey(service)
		if err != nil {
			return maru.Image{}, err
		}
		return w.once(ctx, "build "+key, func() (maru.Image, error) { return w.build(ctx, name, service, key) })
	}
	// An image that another service of the app builds is that one, not one of a registry.
	for _, other := range slices.Sorted(maps.Keys(services)) {
		if o := services[other]; o.Build != nil && o.Image != "" && o.Image == service.Image {
			return w.one(ctx, other, services)
		}
	}
	return w.once(ctx, "pull "+service.Image+" "+service.Platform, func() (maru.Image, error) { return w.pull(ctx, name, service) })
}

// pin gives the image that a service runs elsewhere.
func (w *imageWork) pin(ctx context.Context, name string) (maru.Image, error) {
	reference, known := w.pinned[name]
	if !known {
		return maru.Image{}, maru.Errorf(maru.NotFound, "it has no image where it is promoted from")
	}
	image, err := w.deps.Images.Image(ctx, reference)
	if maru.KindOf(err) == maru.NotFound {
		return image, maru.WithHint(maru.Errorf(maru.NotFound, "its image %s is not there any more", reference), "deploy it where it is promoted from, and promote it again")
	}
	return image, err
}

// once does what has the key one time, and gives all who ask the same result.
func (w *imageWork) once(ctx context.Context, key string, do func() (maru.Image, error)) (maru.Image, error) {
	w.mu.Lock()
	task, there := w.tasks[key]
	if !there {
		task = &imageTask{done: make(chan struct{})}
		w.tasks[key] = task
	}
	w.mu.Unlock()
	if !there {
		task.image, task.err = do()
		close(task.done)
	}
	select {
	case <-task.done:
		return task.image, task.err
	case <-ctx.Done():
		return maru.Image{}, maru.Errorf(maru.Interrupted, "wait for an image: %w", context.Cause(ctx))
	}
}

// buildKey names all that decides what a build makes, but for the values of its secrets.
func (w *imageWork) buildKey(service maru.Service) (string, error) {
	b := *service.Build
	var err error
	if b.Context, err = w.sourceOf(b.Context); err != nil {
		return "", err
	}
	b.Contexts = maps.Clone(b.Contexts)
	for name, context := range b.Contexts {
		if b.Contexts[name], err = w.sourceOf(context); err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256(maru.Raw(struct {
		Build    maru.Build
		Platform string
		Volumes  []string
	}{b, service.Platform, volumeTargets(service)}))
	return hex.EncodeToString(sum[:]), nil
}

// sourceOf gives the source that the client sent for a folder; what is no folder stays.
func (w *imageWork) sourceOf(folder string) (string, error) {
	if !isFolder(folder) {
		return folder, nil
	}
	id, ok := w.req.Sources[folder]
	if !ok {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "the source of build context %s was not sent", folder),
			"deploy with `maru deploy`, which sends it")
	}
	return id, nil
}

// isFolder tells a folder of the client's machine from a URL or an image.
func isFolder(context string) bool {
	return context != "" && !strings.Contains(context, "://") && !strings.HasPrefix(context, "git@") &&
		!strings.HasPrefix(context, "github.com/")
}

func volumeTargets(service maru.Service) []string {
	var targets []string
	for _, m := range service.Container.Mounts {
		if m.Kind == maru.VolumeMount {
			targets = append(targets, m.Target)
		}
	}
	slices.Sort(targets)
	return targets
}

// origins gives each service's source, for its release.
func (w *imageWork) origins(services map[string]maru.Service) map[string]string {
	origins := map[string]string{}
	for name, service := range services {
		if service.Build == nil {
			continue
		}
		if id, err := w.sourceOf(service.Build.Context); err == nil {
			origins[name] = id
		}
	}
	return origins
}

// present gives the images that a deploy would use without pulling or building.
func (w *imageWork) present(ctx context.Context, services map[string]maru.Service) map[string]maru.Image {
	images := map[string]maru.Image{}
	for name, service := range services {
		if service.Build == nil {
			if image, _, err := w.find(ctx, service.Image); err == nil {
				images[name] = image
			}
			continue
		}
		key, err := w.buildKey(service)
		if err != nil {
			continue
		}
		if image, ok := w.builtBefore(ctx, key, service.Build); ok {
			images[name] = image
		}
	}
	return images
}

func (w *imageWork) progress(name, step, state, message string) {
	if w.to != nil {
		w.to.step(&maruv1.Progress{Service: name, Step: step, State: state, Message: message})
	}
}

// imageName is the name of the images that an app builds. It has the whole scope in it, so that no app's
// image takes the place of another's, and not the service's name: two services that build the same have
// the same image, whichever was first.
func imageName(scope maru.Scope) string {
	return BuiltImages + repositoryPart(scope.Project) + "/" + repositoryPart(scope.Environment) + "/" + repositoryPart(scope.App)
}

// JobImage is the name of the images that jobs of an app's workflows build.
func JobImage(project, app string) string {
	return jobImages + repositoryPart(project) + "/" + repositoryPart(app)
}

// repositoryPart makes a name fit for an image's: there, separators don't follow each other. Names that
// had to be changed keep apart by a digest of what they were.
func repositoryPart(name string) string {
	var b strings.Builder
	separated := true
	for _, r := range name {
		if !strings.ContainsRune("._-", r) {
			b.WriteRune(r)
			separated = false
		} else if !separated {
			b.WriteRune(r)
			separated = true
		}
	}
	if b.String() == name {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return b.String() + "-" + hex.EncodeToString(sum[:4])
}
