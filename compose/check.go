package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"github.com/marucloud/maru"
)

// check holds the parts of the app against each other.
func (l *load) check() {
	for _, name := range sortedKeys(l.proj.Services) {
		c := checker{l: l, name: name, s: l.proj.Services[name]}
		c.image()
		c.references()
		c.dependencies()
		c.contradictions()
		c.targets()
	}
	l.checkCycles()
}

type checker struct {
	l    *load
	name string
	s    types.ServiceConfig
}

func (c checker) fail(message, hint string, path ...string) {
	full := append([]string{"services", c.name}, path...)
	c.l.fail(c.l.place(full...), c.l.pathOf(full), maru.Invalid, message, hint)
}

func (c checker) image() {
	if c.s.Build == nil && c.s.Image == "" && c.s.Provider == nil {
		c.fail("has neither an image nor a build", "write image: NAME, or build: FOLDER")
	}
	if _, err := reference.ParseNormalizedNamed(c.s.Image); err != nil && c.s.Image != "" {
		c.fail(fmt.Sprintf("%q is not an image: %v", c.s.Image, err), "write it as NAME, NAME:TAG or HOST/NAME:TAG, in lower case", "image")
	}
}

// references reports networks, volumes, configs and secrets that the file does not define.
func (c checker) references() {
	for _, name := range sortedKeys(c.s.Networks) {
		if _, ok := c.l.proj.Networks[name]; !ok {
			c.undefined("network", name, sortedKeys(c.l.proj.Networks), "networks", name)
		}
	}
	for i, v := range c.s.Volumes {
		if _, ok := c.l.proj.Volumes[v.Source]; !ok && v.Type == types.VolumeTypeVolume && v.Source != "" {
			c.undefined("volume", v.Source, sortedKeys(c.l.proj.Volumes), "volumes", fmt.Sprint(i))
		}
	}
	for i, f := range c.s.Configs {
		if _, ok := c.l.proj.Configs[f.Source]; !ok {
			c.undefined("config", f.Source, sortedKeys(c.l.proj.Configs), "configs", fmt.Sprint(i))
		}
	}
	secrets := sortedKeys(c.l.proj.Secrets)
	for i, f := range c.s.Secrets {
		if !slices.Contains(secrets, f.Source) {
			c.undefined("secret", f.Source, secrets, "secrets", fmt.Sprint(i))
		}
	}
	if c.s.Build == nil {
		return
	}
	for i, f := range c.s.Build.Secrets {
		if !slices.Contains(secrets, f.Source) {
			c.undefined("secret", f.Source, secrets, "build", "secrets", fmt.Sprint(i))
		}
	}
}

func (c checker) undefined(what, name string, known []string, path ...string) {
	var hint string
	if best := nearest(name, known); best != "" {
		hint = fmt.Sprintf("did you mean %q?", best)
	} else {
		content := map[string]string{"secret": "file: PATH", "config": "content: TEXT"}[what]
		hint = fmt.Sprintf("define it at the top of the file: %ss: {%s: {%s}}", what, name, content)
	}
	c.fail(fmt.Sprintf("there is no %s called %q", what, name), hint, path...)
}

func (c checker) dependencies() {
	for _, name := range sortedKeys(c.s.DependsOn) {
		if _, ok := c.l.proj.Services[name]; ok {
			continue
		}
		if _, ok := c.l.proj.DisabledServices[name]; !ok {
			c.fail(fmt.Sprintf("there is no service called %q", name), didYouMean(name, sortedKeys(c.l.proj.AllServices())), c.dependency(name)...)
		} else if c.s.DependsOn[name].Required {
			c.fail(fmt.Sprintf("the service %q is not part of the app: none of its profiles is on", name),
				"turn one on with --profile, or say required: false", c.dependency(name)...)
		}
	}
}

// dependency gives the path of what makes the service depend on another.
func (c checker) dependency(name string) []string {
	service := c.l.src.get("services", c.name)
	if service.get("depends_on", name) != nil {
		return []string{"depends_on", name}
	}
	for _, key := range []string{"links", "volumes_from"} {
		if list := service.get(key); list != nil {
			for i, item := range list.items {
				if target, _, _ := strings.Cut(item.text(), ":"); target == name {
					return []string{key, fmt.Sprint(i)}
				}
			}
		}
	}
	return []string{"depends_on"}
}

// contradictions reports keys that say two things at once.
func (c checker) contradictions() {
	s := c.s
	if s.NetworkMode != "" && len(s.Networks) > 0 {
		c.fail("network_mode and networks exclude each other", "leave one of them out", "network_mode")
	}
	if s.Build != nil && s.Build.DockerfileInline != "" && s.Build.Dockerfile != "" {
		c.fail("dockerfile and dockerfile_inline exclude each other", "leave one of them out", "build", "dockerfile_inline")
	}
	if s.Build != nil && len(s.Build.Platforms) > 0 && s.Platform != "" && !slices.Contains(s.Build.Platforms, s.Platform) {
		c.fail("the image is not built for "+s.Platform, "add it to build.platforms", "platform")
	}
	if s.HealthCheck != nil && len(s.HealthCheck.Test) > 0 && !slices.Contains([]string{"CMD", "CMD-SHELL", "NONE"}, s.HealthCheck.Test[0]) {
		c.fail(fmt.Sprintf("begins with %q; it must be CMD, CMD-SHELL or NONE", s.HealthCheck.Test[0]),
			`write ["CMD", "program", "argument"], or a string for the shell`, "healthcheck", "test")
	}
	if s.Deploy == nil {
		return
	}
	if s.Scale != nil && s.Deploy.Replicas != nil && *s.Scale != *s.Deploy.Replicas {
		c.fail("scale and deploy.replicas say different numbers", "leave one of them out", "scale")
	}
	limits, reserved := s.Deploy.Resources.Limits, s.Deploy.Resources.Reservations
	if limits != nil {
		c.differ(float64(s.CPUS), float64(limits.NanoCPUs.Value()), "cpus", "deploy.resources.limits.cpus")
		c.differ(float64(s.MemLimit), float64(limits.MemoryBytes), "mem_limit", "deploy.resources.limits.memory")
		c.differ(float64(s.PidsLimit), float64(limits.Pids), "pids_limit", "deploy.resources.limits.pids")
	}
	if reserved != nil {
		c.differ(float64(s.MemReservation), float64(reserved.MemoryBytes), "mem_reservation", "deploy.resources.reservations.memory")
	}
}

func (c checker) differ(a, b float64, key, other string) {
	if a != 0 && b != 0 && a != b {
		c.fail(key+" and "+other+" say different things", "leave one of them out", key)
	}
}

// targets reports two mounts at one place.
func (c checker) targets() {
	seen := map[string]bool{}
	for i, t := range c.s.Tmpfs {
		target, _, _ := strings.Cut(t, ":")
		if seen[target] {
			c.fail("something else is mounted at "+target+" already", "leave one of them out", "tmpfs", fmt.Sprint(i))
		}
		seen[target] = true
	}
	for i, v := range c.s.Volumes {
		if seen[v.Target] {
			c.fail("something else is mounted at "+v.Target+" already", "leave one of them out", "volumes", fmt.Sprint(i))
		}
		seen[v.Target] = true
	}
}

// checkCycles reports services that wait for themselves.
func (l *load) checkCycles() {
	done := map[string]bool{}
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		if i := slices.Index(way, name); i >= 0 {
			c := checker{l: l, name: way[len(way)-1], s: l.proj.Services[way[len(way)-1]]}
			c.fail("services wait for each other in a circle: "+strings.Join(append(way[i:], name), " → "),
				"leave one of the dependencies out", c.dependency(name)...)
			return
		}
		if done[name] {
			return
		}
		for _, next := range sortedKeys(l.proj.Services[name].DependsOn) {
			if _, ok := l.proj.Services[next]; ok {
				visit(next, append(slices.Clip(way), name))
			}
		}
		done[name] = true
	}
	for _, name := range sortedKeys(l.proj.Services) {
		visit(name, nil)
	}
}
