package dockerfile

import (
	"context"
	"fmt"
	"os"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/entitlements"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// Build makes the image that the request asks for.
func (s *Solver) Build(ctx context.Context, req build.Request, emit func(build.Event)) (maru.Image, error) {
	names, err := req.Names()
	if err != nil {
		return maru.Image{}, err
	}
	scratch, err := os.MkdirTemp(s.cfg.Run, "dockerfile-")
	if err != nil {
		return maru.Image{}, fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	opt, err := s.options(req, names, scratch)
	if err != nil {
		return maru.Image{}, err
	}
	statuses := make(chan *bkclient.SolveStatus, 16)
	progress := newProgress(emit)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		progress.follow(statuses)
	}()
	response, err := s.client.Solve(ctx, nil, opt, statuses)
	<-followed
	if err != nil {
		return maru.Image{}, explain(ctx, err, progress)
	}
	digest := response.ExporterResponse[exptypes.ExporterImageDigestKey]
	image, err := s.images.Name(ctx, digest, names)
	if err != nil {
		return maru.Image{}, fmt.Errorf("name the image that was built: %w", err)
	}
	return image, nil
}

func (s *Solver) options(req build.Request, names []string, scratch string) (bkclient.SolveOpt, error) {
	var opt bkclient.SolveOpt
	if err := checkDockerfile(req.Build); err != nil {
		return opt, err
	}
	attrs, err := attributes(req, s.platform)
	if err != nil {
		return opt, err
	}
	mounts, err := sources(req, attrs, scratch)
	if err != nil {
		return opt, err
	}
	export := map[string]string{
		"name":           strings.Join(names, ","),
		"unpack":         "true",
		"compression":    "uncompressed", // it stays on this machine
		"oci-mediatypes": "true",
	}
	if !req.Epoch.IsZero() {
		export["rewrite-timestamp"] = "true"
	}
	opt = bkclient.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   mounts,
		SharedKey:     names[0], // what was sent for this name before is not sent again
		Exports:       []bkclient.ExportEntry{{Type: bkclient.ExporterImage, Attrs: export}},
		Session:       []session.Attachable{credentials{byHost: req.Credentials}, secrets(req.Secrets)},
	}
	if req.Build.Network == "host" {
		opt.AllowedEntitlements = []string{entitlements.EntitlementNetworkHost.String()}
	}
	for _, ref := range req.Build.CacheFrom {
		opt.CacheImports = append(opt.CacheImports, cacheImport(ref))
	}
	return opt, nil
}

// cacheImport reads compose's cache_from: an image, or "type=registry,ref=IMAGE".
func cacheImport(entry string) bkclient.CacheOptionsEntry {
	attrs := map[string]string{}
	for _, field := range strings.Split(entry, ",") {
		if key, value, ok := strings.Cut(field, "="); ok {
			attrs[key] = value
		}
	}
	kind := attrs["type"]
	delete(attrs, "type")
	if kind == "" {
		return bkclient.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": entry}}
	}
	return bkclient.CacheOptionsEntry{Type: kind, Attrs: attrs}
}
