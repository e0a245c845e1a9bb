// Package golang makes the image of a Go program straight from its source, without a Dockerfile and
// without an image registry: the toolchain is a Go module, and the image holds the program and the few
// files that a program expects beside itself.
//
// The source decides nothing but what is compiled. The Go command runs in a container, without
// privileges: once to fetch modules, where it reaches module proxies and nothing else, and once to
// compile, without any network. It runs no code of the source or its modules. Modules come from the
// proxies in the builder's GOPROXY only, never straight from version control; private ones are served
// by a private proxy, or vendored.
//
// The same source gives the same image. A source built before is recognized by its digest.
package golang

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/imagestore"
	"github.com/marucloud/maru/delivery/build/sandbox"
	"github.com/marucloud/maru/internal/atomicfile"
)

// Images is where the images go.
type Images interface {
	// Put stores an image with its layers and gives it its names.
	Put(ctx context.Context, names []string, manifest, config []byte, layers []imagestore.Layer) (maru.Image, error)
	// Name gives further names to the image of the digest; NotFound.
	Name(ctx context.Context, digest string, names []string) (maru.Image, error)
}

// Builder makes images of Go programs. It is safe for concurrent use; one process uses a folder at a
// time.
type Builder struct {
	root       string
	images     Images
	sandbox    *sandbox.Runner
	fetch      *fetcher
	toolchains *toolchains
	getenv     func(string) string
	log        *slog.Logger
	parallel   int64
	slots      *semaphore.Weighted
	setup      func() error

	mu    sync.Mutex
	bases map[string]imagestore.Layer // by Go version and epoch
}

// New gives a builder that keeps toolchains and caches in the folder root. Getenv reads the operator's
// GOPROXY, GOSUMDB, GONOSUMDB, GOINSECURE and GOPRIVATE.
func New(root string, images Images, sandbox *sandbox.Runner, getenv func(string) string, log *slog.Logger) (*Builder, error) {
	fetch, err := newFetcher(getenv("GOPROXY"))
	if err != nil {
		return nil, err
	}
	b := &Builder{
		root: root, images: images, sandbox: sandbox, fetch: fetch, getenv: getenv, log: log,
		parallel: int64(runtime.NumCPU()),
		bases:    map[string]imagestore.Layer{},
	}
	b.slots = semaphore.NewWeighted(b.parallel)
	sums := &checksums{fetch: fetch, key: publicDatabase, root: b.path("sumdb"), log: log}
	b.toolchains = &toolchains{root: b.path("toolchains"), fetch: fetch, sums: sums, log: log}
	b.setup = sync.OnceValue(b.makeFolders)
	return b, nil
}

func (b *Builder) path(name string) string { return filepath.Join(b.root, name) }

// Build makes the image that the request asks for.
func (b *Builder) Build(ctx context.Context, req build.Request, emit func(build.Event)) (maru.Image, error) {
	if err := supported(req); err != nil {
		return maru.Image{}, err
	}
	names, err := req.Names()
	if err != nil {
		return maru.Image{}, err
	}
	if err := b.setup(); err != nil {
		return maru.Image{}, err
	}
	steps := &steps{emit: emit}
	var src source
	err = steps.run("read the source", func(*step) error {
		src, err = inspect(req)
		return err
	})
	if err != nil {
		return maru.Image{}, err
	}
	key := resultKey(req, src)
	if !req.Build.NoCache {
		if image, ok := b.known(ctx, key, names); ok {
			steps.cached("go build " + src.pkg)
			return image, nil
		}
	}
	share, err := b.acquire(ctx, src.version)
	if err != nil {
		return maru.Image{}, err
	}
	defer b.slots.Release(share)
	image, err := b.make(ctx, req, names, src, steps)
	if err == nil {
		b.remember(key, image)
		b.warm(src.version)
	}
	return image, err
}

// acquire waits for the machine. The first build with a version of Go has it alone: builds at the same
// time would each compile the same of the standard library.
func (b *Builder) acquire(ctx context.Context, version string) (share int64, err error) {
	for {
		share = 1
		if !b.isWarm(version) {
			share = b.parallel
		}
		if err := b.slots.Acquire(ctx, share); err != nil {
			return 0, maru.Errorf(maru.Interrupted, "waiting to build: %w", err)
		}
		if share == 1 || !b.isWarm(version) {
			return share, nil
		}
		b.slots.Release(share) // another one was first
	}
}

func (b *Builder) isWarm(version string) bool {
	_, err := os.Stat(filepath.Join(b.path("warm"), version))
	return err == nil
}

func (b *Builder) warm(version string) {
	if err := os.WriteFile(filepath.Join(b.path("warm"), version), nil, 0o644); err != nil {
		b.log.Warn("builds will not run at the same time", "error", err)
	}
}

func supported(req build.Request) error {
	b := req.Build
	platform := "linux/" + runtime.GOARCH
	for _, p := range b.Platforms {
		if p != platform {
			return maru.WithHint(maru.Errorf(maru.Unsupported, "an image for %s can't be built on this machine, which is %s", p, platform),
				"leave platforms out, or build on a machine of that kind")
		}
	}
	if len(b.Args) > 0 || b.Target != "" || len(b.Contexts) > 0 || len(b.Secrets) > 0 {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "args, target, additional_contexts and secrets mean nothing to a Go program built without a Dockerfile"),
			"remove them, or add a Dockerfile")
	}
	return nil
}

func (b *Builder) make(ctx context.Context, req build.Request, names []string, src source, steps *steps) (maru.Image, error) {
	work, err := os.MkdirTemp(b.path("work"), "build-")
	if err != nil {
		return maru.Image{}, fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(work)
	c := &compilation{b: b, src: src, work: work}
	err = steps.run("Go "+src.version, func(s *step) error {
		if c.goroot, err = b.toolchains.ensure(ctx, src.version, s.log); err != nil {
			return err
		}
		return c.prepare()
	})
	if err != nil {
		return maru.Image{}, err
	}
	if err := b.modules(ctx, c, steps); err != nil {
		return maru.Image{}, err
	}
	var program string
	err = steps.run("go build "+src.pkg, func(s *step) error {
		program, err = c.compile(ctx, s)
		return err
	})
	if err != nil {
		return maru.Image{}, err
	}
	var image maru.Image
	err = steps.run("make the image", func(*step) error {
		image, err = b.assemble(ctx, req, names, c.goroot, program)
		return err
	})
	return image, err
}

// fetchedPrefix begins the names of the marks that tell which modules are there.
const fetchedPrefix = "fetched-"

// modules fetches what the source names, unless that was done before.
func (b *Builder) modules(ctx context.Context, c *compilation, steps *steps) error {
	if c.src.modules == "" {
		return nil
	}
	mark := filepath.Join(b.path("modules"), fetchedPrefix+c.src.modules)
	if _, err := os.Stat(mark); err == nil {
		steps.cached("go mod download")
		return nil
	}
	return steps.run("go mod download", func(s *step) error {
		if err := c.download(ctx, s); err != nil {
			return err
		}
		return os.WriteFile(mark, nil, 0o644)
	})
}

func (b *Builder) assemble(ctx context.Context, req build.Request, names []string, goroot, program string) (maru.Image, error) {
	at := epoch(req)
	base, err := b.base(goroot, at)
	if err != nil {
		return maru.Image{}, fmt.Errorf("base layer: %w", err)
	}
	top, err := programLayer(program, req.Volumes, at)
	if err != nil {
		return maru.Image{}, fmt.Errorf("program layer: %w", err)
	}
	config, err := configuration(req.Build.Labels, at, base, top)
	if err != nil {
		return maru.Image{}, fmt.Errorf("image config: %w", err)
	}
	manifest, err := manifestOf(config, base, top)
	if err != nil {
		return maru.Image{}, fmt.Errorf("image manifest: %w", err)
	}
	return b.images.Put(ctx, names, manifest, config, []imagestore.Layer{base, top})
}

func (b *Builder) base(goroot string, at time.Time) (imagestore.Layer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := goroot + at.String()
	if l, ok := b.bases[key]; ok {
		return l, nil
	}
	l, err := baseLayer(goroot, at)
	if err == nil {
		b.bases[key] = l
	}
	return l, err
}

// makeFolders makes what containers mount, and removes what a builder that was killed left.
func (b *Builder) makeFolders() error {
	if err := os.RemoveAll(b.path("work")); err != nil {
		return fmt.Errorf("clean scratch folder: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(b.path("toolchains"), "tmp-*"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clean toolchain folder: %w", err)
		}
	}
	for _, dir := range []string{"work", "warm", "results", "toolchains", "root/usr/local/go", "root/src", "root/cache",
		"root/modules", "root/tmp", "root/out", "root/proc", "root/dev", "root/etc"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	for _, dir := range []string{"cache", "modules"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		if err := os.Chown(b.path(dir), builderUser, builderUser); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	passwd := fmt.Sprintf("build:x:%d:%d:build:/tmp:/sbin/nologin\n", builderUser, builderUser)
	return os.WriteFile(b.path("root/etc/passwd"), []byte(passwd), 0o644)
}

type result struct {
	Digest string `json:"digest"`
}

// known finds the image of an earlier build of the same, if it is still there.
func (b *Builder) known(ctx context.Context, key string, names []string) (maru.Image, bool) {
	data, err := os.ReadFile(filepath.Join(b.path("results"), key))
	if err != nil {
		return maru.Image{}, false
	}
	var r result
	if json.Unmarshal(data, &r) != nil {
		return maru.Image{}, false
	}
	image, err := b.images.Name(ctx, r.Digest, names)
	return image, err == nil
}

func (b *Builder) remember(key string, image maru.Image) {
	data, err := json.Marshal(result{Digest: imagestore.DigestOf(image.Reference)})
	if err == nil {
		err = atomicfile.Write(filepath.Join(b.path("results"), key), data, 0o644)
	}
	if err != nil {
		b.log.Warn("a build's result was not kept: it will be made again", "error", err)
	}
}
