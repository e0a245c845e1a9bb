package plan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// NewRelease makes the release that a deployment gives a service, out of the app's file. Errors:
// NotFound when the service has no image, Invalid when the file refers to what it does not define.
func NewRelease(now time.Time, d maru.Deployment, name string, number int) (maru.Release, error) {
	image, ok := d.Images[name]
	if !ok {
		return maru.Release{}, maru.Errorf(maru.NotFound, "service %q has no image", name)
	}
	r := maru.Release{
		Service: d.Scope.Service(name),
		Number:  number,
		Image:   image.Reference,
		Spec:    WithImagePorts(d.App.Services[name], image.Config),
		Source:  d.Sources[name],
		Created: now,
		By:      d.By,
		Message: d.Message,
	}
	if !d.Seed {
		r.Spec.Seed = nil
	}
	for key := range r.Spec.Networks {
		n, ok := d.App.Networks[key]
		if !ok {
			return maru.Release{}, undefined(name, "network", key)
		}
		put(&r.Networks, key, n)
	}
	for _, m := range r.Spec.Container.Mounts {
		if m.Kind != maru.VolumeMount || m.Source == "" {
			continue
		}
		v, ok := d.App.Volumes[m.Source]
		if !ok {
			return maru.Release{}, undefined(name, "volume", m.Source)
		}
		put(&r.Volumes, m.Source, v)
	}
	for _, m := range r.Spec.Configs {
		c, ok := d.App.Configs[m.Source]
		if !ok {
			return maru.Release{}, undefined(name, "config", m.Source)
		}
		put(&r.Configs, m.Source, c)
	}
	for _, key := range r.Spec.SecretKeys() {
		v, ok := d.Secrets[key]
		if !ok {
			return maru.Release{}, maru.WithHint(maru.Errorf(maru.NotFound, "service %q: secret %q has no value", name, key),
				fmt.Sprintf("set it with: maru secret set %s", first(d.App.Secrets[key].Name, key)))
		}
		put(&r.Secrets, key, v)
	}
	return r, nil
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

func undefined(service, what, key string) error {
	return maru.Errorf(maru.Invalid, "service %q uses %s %q, which the app does not define", service, what, key)
}

// Same tells whether two releases run the same: so that going from one to the other need not replace
// an instance. What only says how to make an image or how to roll out does not count, nor does the
// number of instances.
func Same(a, b maru.Release) bool {
	return bytes.Equal(maru.Raw(essenceOf(a)), maru.Raw(essenceOf(b)))
}

// essence is what of a release makes its instances and their traffic what they are.
type essence struct {
	Image    string                        `json:"image"`
	Spec     maru.Service                  `json:"spec"`
	Networks map[string]maru.Network       `json:"networks,omitempty"`
	Volumes  map[string]maru.Volume        `json:"volumes,omitempty"`
	Configs  map[string]maru.Config        `json:"configs,omitempty"`
	Secrets  map[string]maru.SecretVersion `json:"secrets,omitempty"`
}

func essenceOf(r maru.Release) essence {
	s := r.Spec
	s.Image, s.Platform, s.Pull, s.Build = "", "", "", nil
	s.DependsOn, s.Update, s.Release, s.Seed, s.After = nil, maru.Update{}, nil, nil, nil
	if s.Kind != maru.Job {
		s.Replicas = 0
	}
	return essence{digest(r.Image), s, r.Networks, r.Volumes, r.Configs, r.Secrets}
}

// digest is the part of a reference that says what the image is.
func digest(reference string) string {
	if _, d, ok := strings.Cut(reference, "@"); ok {
		return d
	}
	return reference
}

// circle finds services that depend on each other in a circle; nil when there are none.
func circle(services map[string]maru.Service) []string {
	const (
		open = 1
		done = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = open
		path = append(path, name)
		for _, d := range services[name].DependsOn {
			if found := visit(d.Service); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, name := range sortedKeys(services) {
		if found := visit(name); found != nil {
			return found
		}
	}
	return nil
}
