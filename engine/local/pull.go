package local

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
)

// progressInterval is how often a pull tells how far it is.
const progressInterval = 200 * time.Millisecond

// pull fetches an image, unpacks it and keeps it.
func (s *imageStore) pull(ctx context.Context, ref string, opts maru.PullOptions, progress func(maru.PullProgress)) (maru.Image, error) {
	name, err := parseReference(ref)
	if err != nil {
		return maru.Image{}, err
	}
	matcher := platforms.Default()
	if opts.Platform != "" {
		platform, err := platforms.Parse(opts.Platform)
		if err != nil {
			return maru.Image{}, maru.Errorf(maru.Invalid, "platform %q: %w", opts.Platform, err)
		}
		matcher = platforms.OnlyStrict(platform)
	}
	meter := &pullMeter{seen: make(map[digest.Digest]bool)}
	resolver := meteredResolver{docker.NewResolver(docker.ResolverOptions{Hosts: s.hosts(opts)}), meter}
	stop := meter.tell(progress)
	defer stop()
	image, err := s.client.Pull(ctx, name,
		containerd.WithResolver(resolver), containerd.WithPlatformMatcher(matcher), containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(snapshotter), containerd.WithUnpackOpts([]containerd.UnpackOpt{syncedUnpack}), containerd.WithPullLabel(managedLabel, "true"),
		containerd.WithImageHandlerWrapper(meter.watch))
	if err != nil {
		return maru.Image{}, pullError(ref, opts, err)
	}
	record := image.Metadata()
	if opts.Platform != "" {
		// By the digest of an index nobody could tell which of its images is meant.
		if record.Target, err = manifestOf(ctx, s.client, record.Target, matcher); err != nil {
			return maru.Image{}, pullError(ref, opts, err)
		}
	}
	stop()
	return s.present(ctx, record)
}

// manifestOf gives the descriptor of an index's manifest for the platform.
func manifestOf(ctx context.Context, client *containerd.Client, target ocispec.Descriptor, matcher platforms.MatchComparer) (ocispec.Descriptor, error) {
	if !images.IsIndexType(target.MediaType) {
		return target, nil
	}
	children, err := images.Children(ctx, client.ContentStore(), target)
	if err != nil {
		return target, err
	}
	var best *ocispec.Descriptor
	for _, child := range children {
		if child.Platform == nil || !images.IsManifestType(child.MediaType) || !matcher.Match(*child.Platform) {
			continue
		}
		if best == nil || matcher.Less(*child.Platform, *best.Platform) {
			best = &child
		}
	}
	if best == nil {
		return target, fmt.Errorf("no manifest: %w", errdefs.ErrNotFound)
	}
	return *best, nil
}

func pullError(ref string, opts maru.PullOptions, err error) error {
	text := err.Error()
	switch {
	case errdefs.IsUnauthorized(err) || strings.Contains(text, "401 Unauthorized") || strings.Contains(text, "403 Forbidden") ||
		strings.Contains(text, "authorization failed"):
		hint := "log in to the registry, or check the image's name"
		if opts.Username != "" {
			hint = "check the user name and the password"
		}
		return maru.WithHint(maru.Errorf(maru.Denied, "pull %s: the registry does not give it: %w", ref, err), hint)
	case errdefs.IsNotFound(err) && opts.Platform != "":
		return maru.WithHint(maru.Errorf(maru.NotFound, "pull %s: %w", ref, err), "check the name, and that it is there for "+opts.Platform)
	case errdefs.IsNotFound(err):
		return maru.WithHint(maru.Errorf(maru.NotFound, "pull %s: %w", ref, err), "check the name and the tag, and that it is there for "+platforms.DefaultString())
	}
	return maru.Errorf(maru.Unavailable, "pull %s: %w", ref, err)
}

// hosts gives where to look for images of a registry: its mirrors first. Credentials go to the
// registry itself and to no mirror.
func (s *imageStore) hosts(opts maru.PullOptions) docker.RegistryHosts {
	return func(host string) ([]docker.RegistryHost, error) {
		var hosts []docker.RegistryHost
		mirrors, ok := s.mirrors[host]
		if !ok {
			mirrors = s.mirrors["*"]
		}
		for _, mirror := range mirrors {
			u, err := url.Parse(mirror)
			if err != nil {
				return nil, err
			}
			path := strings.TrimSuffix(u.Path, "/")
			hosts = append(hosts, docker.RegistryHost{
				Client: registryClient, Authorizer: docker.NewDockerAuthorizer(docker.WithAuthClient(registryClient)),
				Host: u.Host, Scheme: u.Scheme, Path: path + "/v2",
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
			})
		}
		origin, err := docker.DefaultHost(host)
		if err != nil {
			return nil, err
		}
		scheme := "https"
		if name, _, err := net.SplitHostPort(host); err == nil && isLoopback(name) {
			scheme = "http"
		}
		credentials := func(asked string) (string, string, error) {
			if asked != origin {
				return "", "", nil
			}
			return opts.Username, opts.Password, nil
		}
		return append(hosts, docker.RegistryHost{
			Client:     registryClient,
			Authorizer: docker.NewDockerAuthorizer(docker.WithAuthClient(registryClient), docker.WithAuthCreds(credentials)),
			Host:       origin, Scheme: scheme, Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}), nil
	}
}

var registryClient = &http.Client{Transport: &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: 30 * time.Second,
	IdleConnTimeout:       30 * time.Second,
	ForceAttemptHTTP2:     true,
}}

// pullMeter counts what a pull fetches.
type pullMeter struct {
	mu    sync.Mutex
	seen  map[digest.Digest]bool
	total int64
	done  int64
}

// watch adds the size of everything that is to be fetched.
func (m *pullMeter) watch(next images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next.Handle(ctx, d)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, child := range children {
			if !m.seen[child.Digest] {
				m.seen[child.Digest] = true
				m.total += child.Size
			}
		}
		return children, err
	})
}

func (m *pullMeter) progress() maru.PullProgress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maru.PullProgress{Done: min(m.done, m.total), Total: m.total}
}

// tell calls progress every now and then until the function that it gives is called, which may be
// called twice.
func (m *pullMeter) tell(progress func(maru.PullProgress)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				progress(m.progress())
			case <-end:
				progress(m.progress())
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(end)
		<-ended
	})
}

// meteredResolver counts the bytes that go through a resolver's fetchers.
type meteredResolver struct {
	remotes.Resolver
	meter *pullMeter
}

func (r meteredResolver) Fetcher(ctx context.Context, ref string) (remotes.Fetcher, error) {
	fetcher, err := r.Resolver.Fetcher(ctx, ref)
	if err != nil {
		return nil, err
	}
	return remotes.FetcherFunc(func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		body, err := fetcher.Fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		return &meteredBody{body, r.meter}, nil
	}), nil
}

type meteredBody struct {
	io.ReadCloser
	meter *pullMeter
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.meter.mu.Lock()
	b.meter.done += int64(n)
	b.meter.mu.Unlock()
	return n, err
}
