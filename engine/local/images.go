package local

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/marucloud/maru"
)

// Pull implements [maru.Images].
func (e *Engine) Pull(ctx context.Context, ref string, opts maru.PullOptions, progress func(maru.PullProgress)) (maru.Image, error) {
	if err := e.await(ctx); err != nil {
		return maru.Image{}, err
	}
	return e.images.pull(inNamespace(ctx), ref, opts, progress)
}

// Load implements [maru.Images].
func (e *Engine) Load(ctx context.Context, archive io.Reader) ([]maru.Image, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	return e.images.load(inNamespace(ctx), archive)
}

// Image implements [maru.Images]. The image stays present by the digest that it gives, even if its
// tag moves on, until Prune finds it unused.
func (e *Engine) Image(ctx context.Context, ref string) (maru.Image, error) {
	if err := e.await(ctx); err != nil {
		return maru.Image{}, err
	}
	return e.images.image(inNamespace(ctx), ref)
}

// Images implements [maru.Images].
func (e *Engine) Images(ctx context.Context) ([]maru.Image, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	return e.images.list(inNamespace(ctx))
}

// Prune implements [maru.Images].
func (e *Engine) Prune(ctx context.Context, keep []string) ([]maru.Image, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	ctx = inNamespace(ctx)
	e.images.pruning.Lock()
	defer e.images.pruning.Unlock()
	used := make(map[digest.Digest]bool)
	use := func(ref string) {
		if record, err := e.images.find(ctx, ref); err == nil { // what is not present needs no keeping
			used[record.Target.Digest] = true
		}
	}
	for _, ref := range keep {
		use(ref)
	}
	e.mu.Lock()
	var specs []maru.Workload
	for _, actor := range e.workloads {
		specs = append(specs, actor.spec)
	}
	e.mu.Unlock()
	for _, spec := range specs {
		use(spec.Image)
		for _, m := range spec.Container.Mounts {
			if m.Kind == maru.ImageMount {
				use(m.Source)
			}
		}
	}
	removed, err := e.images.prune(ctx, used)
	return removed, errors.Join(err, e.images.repositories.collect(ctx)) // of uploads that came to nothing, too
}
