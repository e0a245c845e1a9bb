package imagestore

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/marucloud/maru"
)

func describe(ref string, manifest ocispec.Manifest, config ocispec.Image) maru.Image {
	image := maru.Image{
		Reference: ref,
		Platform:  platforms.Format(platforms.Normalize(config.Platform)),
		Bytes:     manifest.Config.Size,
		Config: maru.ImageConfig{
			Entrypoint: config.Config.Entrypoint,
			Command:    config.Config.Cmd,
			User:       config.Config.User,
			WorkDir:    config.Config.WorkingDir,
			Volumes:    slices.Sorted(maps.Keys(config.Config.Volumes)),
			StopSignal: config.Config.StopSignal,
			Labels:     config.Config.Labels,
		},
	}
	for _, l := range manifest.Layers {
		image.Bytes += l.Size
	}
	if config.Created != nil {
		image.Created = *config.Created
	}
	for _, exposed := range slices.Sorted(maps.Keys(config.Config.ExposedPorts)) {
		if p, ok := parsePort(exposed); ok {
			image.Config.Ports = append(image.Config.Ports, p)
		}
	}
	return image
}

// parsePort reads "8080/tcp"; the protocol may be missing.
func parsePort(s string) (maru.Port, bool) {
	number, protocol, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	p := maru.Port{Port: uint16(n), Protocol: maru.TCP}
	switch protocol {
	case "udp":
		p.Protocol = maru.UDP
	case "", "tcp":
	default:
		return p, false
	}
	return p, err == nil && n > 0
}
