package dockerfile

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/cache/remotecache"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/snapshot/containerd"
	httpsource "github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/worker/base"
	"google.golang.org/grpc"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// registryHosts says where a registry's images come from: its mirrors in order, then itself. Plain
// HTTP is spoken with mirrors that say so and with registries on the loopback.
func registryHosts(mirrors map[string][]string) docker.RegistryHosts {
	own := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost))
	return func(host string) ([]docker.RegistryHost, error) {
		itself, err := own(host)
		if err != nil {
			return nil, err
		}
		var all []docker.RegistryHost
		for _, mirror := range slices.Concat(mirrors[host], mirrors["*"]) {
			u, err := url.Parse(mirror)
			if err != nil {
				return nil, maru.Errorf(maru.Invalid, "mirror of %s: %w", host, err)
			}
			all = append(all, docker.RegistryHost{
				Client:       http.DefaultClient,
				Host:         u.Host,
				Scheme:       u.Scheme,
				Path:         path.Join("/v2", u.Path),
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
			})
		}
		return append(all, itself...), nil
	}
}

// cacheImporters lets cache_from name images that carry a cache.
func cacheImporters(sessions *session.Manager, store *containerd.Store, hosts docker.RegistryHosts) map[string]remotecache.ResolveCacheImporterFunc {
	return map[string]remotecache.ResolveCacheImporterFunc{
		"registry": registrycache.ResolveCacheImporterFunc(sessions, store, hosts),
	}
}

// hubHosts are the names under which Docker Hub is asked.
var hubHosts = []string{"docker.io", "index.docker.io", "registry-1.docker.io"}

// credentials answers BuildKit's questions from the request. Tokens it fetches itself.
type credentials struct {
	auth.UnimplementedAuthServer
	byHost map[string]build.Credentials
}

// Register makes it a part of a session.
func (c credentials) Register(server *grpc.Server) { auth.RegisterAuthServer(server, c) }

// Credentials gives those for a host, or empty ones.
func (c credentials) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	names := []string{req.Host}
	if slices.Contains(hubHosts, req.Host) {
		names = hubHosts
	}
	for _, name := range names {
		if found, ok := c.byHost[name]; ok {
			return &auth.CredentialsResponse{Username: found.Username, Secret: found.Password}, nil
		}
	}
	return &auth.CredentialsResponse{}, nil
}

func secrets(values map[string][]byte) session.Attachable { return secretsprovider.FromMap(values) }

// guardSources makes ADD fetch from where a build step could, and not from this machine.
func guardSources(w *base.Worker, forbidden func(netip.Addr) bool) error {
	source, err := httpsource.NewSource(httpsource.Opt{CacheAccessor: w.CacheMgr, Transport: guardedTransport(forbidden)})
	if err != nil {
		return err
	}
	w.SourceManager.Register(source)
	w.HTTPSource = source
	return nil
}
