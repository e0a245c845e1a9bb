package dockerfile

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// attributes says the request in the words of BuildKit's Dockerfile frontend.
func attributes(req build.Request, platform ocispec.Platform) (map[string]string, error) {
	b := req.Build
	if err := checkPlatforms(b.Platforms, platform); err != nil {
		return nil, err
	}
	a := map[string]string{
		"filename": dockerfileName(b),
		"cmdline":  "embedded", // the frontend looks for a "# syntax=" line only without this
		"platform": platforms.Format(platform),
	}
	set := func(key, value string) {
		if value != "" {
			a[key] = value
		}
	}
	a["image-resolve-mode"] = "local"
	if b.Pull {
		a["image-resolve-mode"] = "pull"
	}
	if b.NoCache {
		a["no-cache"] = ""
	}
	set("target", b.Target)
	if build.IsRemote(b.Context) {
		a["context"] = b.Context
	}
	for name, value := range b.Args {
		a["build-arg:"+name] = value
	}
	for name, value := range b.Labels {
		a["label:"+name] = value
	}
	if !req.Epoch.IsZero() {
		a["build-arg:SOURCE_DATE_EPOCH"] = strconv.FormatInt(req.Epoch.Unix(), 10)
	}
	switch b.Network {
	case "", "default":
	case "none", "host":
		a["force-network-mode"] = b.Network
	default:
		return nil, maru.WithHint(maru.Errorf(maru.Unsupported, "build network %q", b.Network), "use none or host, or leave it out")
	}
	if b.ShmSize > 0 {
		a["shm-size"] = strconv.FormatInt(b.ShmSize, 10)
	}
	set("ulimit", ulimits(b.Ulimits))
	set("add-hosts", hosts(b.ExtraHosts))
	return a, nil
}

func dockerfileName(b maru.Build) string {
	if b.DockerfileInline != "" || b.Dockerfile == "" {
		return "Dockerfile"
	}
	return filepath.Base(b.Dockerfile)
}

func checkPlatforms(wanted []string, here ocispec.Platform) error {
	for _, w := range wanted {
		p, err := platforms.Parse(w)
		if err != nil {
			return maru.Errorf(maru.Invalid, "platform %q: %w", w, err)
		}
		if !platforms.Only(here).Match(p) {
			return maru.WithHint(maru.Errorf(maru.Unsupported, "an image for %s can't be built on this machine, which is %s", w, platforms.Format(here)),
				"leave platforms out, or build on a machine of that kind")
		}
	}
	return nil
}

func ulimits(all []maru.Ulimit) string {
	var fields []string
	for _, u := range all {
		fields = append(fields, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return csvLine(fields)
}

func hosts(byName map[string]string) string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		fields = append(fields, name+"="+byName[name])
	}
	return csvLine(fields)
}

func csvLine(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // a Builder takes all
	w.Flush()
	return strings.TrimSpace(b.String())
}

// sources are the folders that the frontend reads, and the attributes that name them.
func sources(req build.Request, attrs map[string]string, scratch string) (map[string]fsutil.FS, error) {
	b := req.Build
	folders := map[string]string{}
	if !build.IsRemote(b.Context) {
		folders["context"] = b.Context
		folders["dockerfile"] = filepath.Join(b.Context, filepath.Dir(b.Dockerfile))
	}
	if b.DockerfileInline != "" {
		if err := os.WriteFile(filepath.Join(scratch, "Dockerfile"), []byte(b.DockerfileInline), 0o600); err != nil {
			return nil, fmt.Errorf("keep Dockerfile: %w", err)
		}
		folders["dockerfile"] = scratch
		if build.IsRemote(b.Context) {
			attrs["dockerfilekey"] = "dockerfile"
		}
	}
	for name, value := range b.Contexts {
		if filepath.IsAbs(value) {
			folders["context:"+name] = value
			value = "local:context:" + name
		}
		attrs["context:"+name] = value
	}
	mounts := map[string]fsutil.FS{}
	for name, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil || !info.IsDir() {
			return nil, maru.Errorf(maru.Invalid, "%s: %s is not a folder that can be read", name, folder)
		}
		if mounts[name], err = fsutil.NewFS(folder); err != nil {
			return nil, fmt.Errorf("open %s: %w", folder, err)
		}
	}
	return mounts, nil
}

// checkDockerfile finds early what BuildKit would say less clearly.
func checkDockerfile(b maru.Build) error {
	data := []byte(b.DockerfileInline)
	if len(data) == 0 {
		if build.IsRemote(b.Context) {
			return nil
		}
		var err error
		if data, err = readDockerfile(b); err != nil {
			return err
		}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return maru.Errorf(maru.Invalid, "the Dockerfile is empty")
	}
	frontend, _, ranges, ok := parser.DetectSyntax(data)
	if !ok || embedded(frontend) {
		return nil
	}
	line := 1
	if len(ranges) > 0 {
		line = ranges[0].Start.Line
	}
	return maru.WithHint(maru.Errorf(maru.Unsupported, "%s:%d: the syntax %s is a program that Maru does not run", dockerfileName(b), line, frontend),
		"use # syntax=docker/dockerfile:1, or remove the line")
}

// readDockerfile reads nothing outside of the context, whatever links say.
func readDockerfile(b maru.Build) ([]byte, error) {
	name := cmp.Or(b.Dockerfile, "Dockerfile")
	root, err := os.OpenRoot(b.Context)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "the build context is not a folder that can be read: %w", err)
	}
	defer root.Close()
	data, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "there is no %s in the build context", name),
			"add one; a Go program needs none, if its folder has a go.mod")
	}
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "Dockerfile: %w", err)
	}
	return data, nil
}

// embedded tells whether a frontend's name means the Dockerfile language itself.
func embedded(frontend string) bool {
	name, _, _ := strings.Cut(frontend, "@")
	name = strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "docker.io/")
	repository, tag, _ := strings.Cut(name, ":")
	return (repository == "docker/dockerfile" || repository == "docker/dockerfile-upstream") &&
		(tag == "" || tag == "1" || tag == "latest" || tag == "labs" || strings.HasPrefix(tag, "1.") || strings.HasPrefix(tag, "1-"))
}
