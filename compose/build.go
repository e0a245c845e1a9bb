package compose

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// imageContext begins an additional context that is an image.
const imageContext = "docker-image://"

// build reads how the image is made.
func (s *service) build() {
	in := s.in.Build
	if in == nil {
		if s.keys.goPackage+s.keys.goVersion != "" {
			s.fail(maru.Invalid, "the service is not built", "write build: FOLDER", extensionKey, "go")
		}
		return
	}
	b := &maru.Build{
		Context:          in.Context,
		DockerfileInline: in.DockerfileInline,
		Args:             s.buildArgs(),
		Target:           in.Target,
		Contexts:         s.contexts(),
		CacheFrom:        in.CacheFrom,
		NoCache:          in.NoCache || len(in.NoCacheFilter) > 0,
		Pull:             in.Pull,
		Platforms:        in.Platforms,
		Labels:           notEmpty(in.Labels),
		Tags:             in.Tags,
		Secrets:          s.buildSecrets(),
		ExtraHosts:       buildHosts(in.ExtraHosts),
		ShmSize:          int64(in.ShmSize),
		Ulimits:          s.ulimits(in.Ulimits, "build", "ulimits"),
	}
	if in.Network != "default" {
		b.Network = in.Network
	}
	s.out.Build = b
	s.source(b)
}

// source finds out what the context is built by.
func (s *service) source(b *maru.Build) {
	written := ""
	if n := s.node("build", "dockerfile"); n != nil {
		written = n.text()
	}
	if isRemote(b.Context) {
		b.Dockerfile = written
		if written == "" && b.DockerfileInline == "" {
			b.Dockerfile = "Dockerfile"
		}
		return
	}
	if !isDir(b.Context) {
		s.fail(maru.Invalid, fmt.Sprintf("there is no folder %s to build from", s.l.shown(b.Context)), "check the path: it is relative to the compose file's folder", s.contextKey()...)
		return
	}
	if err := s.l.confined(b.Context); err != nil {
		s.fail(maru.Invalid, err.Error(), maru.HintOf(err), s.contextKey()...)
		return
	}
	switch {
	case b.DockerfileInline != "":
		return
	case written != "":
		if !isFile(absolute(b.Context, written)) {
			s.fail(maru.Invalid, fmt.Sprintf("there is no %s in %s", written, s.l.shown(b.Context)), "the path is relative to the build context", "build", "dockerfile")
		}
		b.Dockerfile = written
		return
	}
	for _, name := range []string{"Dockerfile", "dockerfile", "Containerfile"} {
		if isFile(filepath.Join(b.Context, name)) {
			b.Dockerfile = name
			return
		}
	}
	s.goBuild(b)
}

func (s *service) contextKey() []string {
	if s.has("build", "context") {
		return []string{"build", "context"}
	}
	return []string{"build"}
}

func (s *service) buildArgs() map[string]string {
	args := map[string]string{}
	for name, value := range s.in.Build.Args {
		if value != nil {
			args[name] = *value
		} else if env, ok := s.l.env[name]; ok {
			args[name] = env
		}
	}
	if len(args) == 0 {
		return nil
	}
	return args
}

func (s *service) contexts() map[string]string {
	contexts := map[string]string{}
	for _, name := range sortedKeys(s.in.Build.AdditionalContexts) {
		value := s.in.Build.AdditionalContexts[name]
		at := []string{"build", "additional_contexts", name}
		switch target, isService := strings.CutPrefix(value, types.ServicePrefix); {
		case isService:
			s.fail(maru.Unsupported, "an image can't be built from that of another service of the app, "+target,
				"make it a stage of the same Dockerfile, or build from its published image with "+imageContext+"NAME", at...)
		case !isRemote(value) && !strings.HasPrefix(value, imageContext) && !isDir(value):
			s.fail(maru.Invalid, fmt.Sprintf("there is no folder %s", s.l.shown(value)), "check the path: it is relative to the compose file's folder", at...)
		case !isRemote(value) && !strings.HasPrefix(value, imageContext):
			if err := s.l.confined(value); err != nil {
				s.fail(maru.Invalid, err.Error(), maru.HintOf(err), at...)
			}
		}
		contexts[name] = value
	}
	return notEmpty(contexts)
}

func (s *service) buildSecrets() []maru.BuildSecret {
	var out []maru.BuildSecret
	for i, ref := range s.in.Build.Secrets {
		secret := s.l.proj.Secrets[ref.Source]
		id := ref.Target
		if id == "" || s.node("build", "secrets", fmt.Sprint(i), "target") == nil {
			id = ref.Source
		}
		if secret.External {
			s.fail(maru.Unsupported, fmt.Sprintf("the secret %s is on the server, and builds take theirs from where the deploy is started", ref.Source),
				"write file or environment for it", "build", "secrets", fmt.Sprint(i))
			continue
		}
		if s.l.buildSecrets[s.name] == nil {
			s.l.buildSecrets[s.name] = map[string][]byte{}
		}
		s.l.buildSecrets[s.name][id] = s.l.secretValue(ref.Source, secret)
		out = append(out, maru.BuildSecret{ID: id, File: secret.File, Env: secret.Environment})
	}
	return out
}

// buildHosts gives the hosts of build steps, which have one address each.
func buildHosts(hosts types.HostsList) map[string]string {
	out := map[string]string{}
	for name, addresses := range hosts {
		if len(addresses) > 0 {
			out[name] = strings.Trim(addresses[0], "[]")
		}
	}
	return notEmpty(out)
}
