package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/plan"
)

var virtual = maru.Addresses{V4: maru.DefaultRanges().Host().V4.Next()}

func fullRelease() maru.Release {
	spec := web("web:1")
	spec.Networks = map[string]maru.Attachment{"default": {Aliases: []string{"www", "front", "www"}}, "shared": {}}
	spec.Container = maru.Container{
		Entrypoint: []string{"/entry"}, Command: []string{"serve"}, Env: map[string]string{"A": "b"},
		Probes: maru.Probes{Ready: &maru.Probe{TCP: 8080}}, Restart: maru.Restart{Policy: maru.RestartAlways},
		Mounts: []maru.Mount{
			{Kind: maru.VolumeMount, Source: "data", Target: "/data"}, {Kind: maru.VolumeMount, Source: "common", Target: "/c", ReadOnly: true},
			{Kind: maru.VolumeMount, Target: "/scratch"}, {Kind: maru.TmpfsMount, Target: "/tmp"}},
	}
	spec.Publish = []maru.PublishedPort{{HostPort: 80, Target: maru.Port{Port: 8080, Protocol: maru.TCP, App: "http"}}, {Target: maru.Port{Port: 53, Protocol: maru.UDP}}}
	spec.Routes = []maru.Route{{Host: "a.example.com"}, {Host: "b.example.com", Port: 9090}}
	spec.Configs = []maru.FileMount{{Source: "conf", Target: "/etc/z", Mode: 0o444}}
	spec.Secrets = []maru.FileMount{{Source: "key", Target: "/etc/a", UID: 5, GID: 6, Mode: 0o400}}
	spec.Release = &maru.ReleaseStep{Command: []string{"migrate", "up"}}
	return maru.Release{
		Service: shop.Service("web"), Number: 4, Image: "web@sha256:1", Spec: spec,
		Networks: map[string]maru.Network{"default": {Internal: true}, "shared": {External: true, Name: "backbone"}},
		Volumes:  map[string]maru.Volume{"data": {}, "common": {External: true}},
		Configs:  map[string]maru.Config{"conf": {Content: []byte("x=1")}},
		Secrets:  map[string]maru.SecretVersion{"key": {Name: "api-key", Version: 3}},
	}
}

func TestWorkloadOf(t *testing.T) {
	env := maru.Scope{Project: "default", Environment: "production"}
	r := fullRelease()
	got := plan.WorkloadOf(r, 2, virtual, map[string][]byte{"key": []byte("hush")})
	want := maru.Workload{
		ID: shop.Service("web").Workload("4"), Kind: maru.LongRunning, Image: "web@sha256:1", Replicas: 2, Container: r.Spec.Container,
		Files: []maru.File{
			{Path: "/etc/a", Mode: 0o400, UID: 5, GID: 6, Data: []byte("hush"), Secret: true},
			{Path: "/etc/z", Mode: 0o444, Data: []byte("x=1")}},
		Volumes:  map[string]maru.VolumeID{"data": {Scope: shop, Volume: "data"}, "common": {Scope: env, Volume: "common"}},
		Networks: []maru.NetworkID{{Scope: shop, Network: "default"}, {Scope: env, Network: "backbone"}},
		Ports:    []maru.Port{{Port: 8080, Protocol: maru.TCP, App: "http"}, {Port: 53, Protocol: maru.UDP}, {Port: 9090, Protocol: maru.TCP}},
		Aliases: map[string][]string{
			"default/production/shop/default": {"web", "front", "www"}, "default/production//backbone": {"web"}},
		VirtualAddress: virtual,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(virtual)); diff != "" {
		t.Error(diff)
	}
	step := plan.StepOf(r, plan.ReleaseStep, virtual, nil)
	if step.ID.Name != "4.release" || step.Kind != maru.Job || step.Replicas != 1 || len(step.Ports) > 0 || len(step.Aliases) > 0 ||
		step.Container.Probes.Ready != nil || step.Container.Restart.Policy != maru.RestartNever {
		t.Errorf("step %+v", step)
	}
	if diff := cmp.Diff([]string{"migrate", "up"}, step.Container.Command); diff != "" || step.Container.Entrypoint == nil || len(step.Container.Entrypoint) > 0 {
		t.Errorf("step runs %q %q", step.Container.Entrypoint, step.Container.Command)
	}
	if r.Spec.Container.Command[0] != "serve" || r.Spec.Container.Entrypoint[0] != "/entry" {
		t.Error("making the step changed the release")
	}
	run := plan.RunOf(r, "x", nil, virtual, nil)
	if run.ID.Name != "run.x" || run.Container.Command[0] != "serve" || run.Container.Entrypoint[0] != "/entry" {
		t.Errorf("one-off %+v", run)
	}
}

func TestIsolated(t *testing.T) {
	for _, c := range []struct {
		name     string
		networks map[string]maru.Network
		host     bool
		want     bool
	}{
		{"a way out", map[string]maru.Network{"default": {}}, false, false},
		{"internal", map[string]maru.Network{"a": {Internal: true}, "b": {Internal: true}}, false, true},
		{"both", map[string]maru.Network{"a": {Internal: true}, "b": {}}, false, false},
		{"none", nil, false, true},
		{"the host's", nil, true, false},
	} {
		r := maru.Release{Service: shop.Service("web"), Networks: c.networks}
		r.Spec.Container.Host.HostNetwork = c.host
		r.Spec.Networks = map[string]maru.Attachment{}
		for name := range c.networks {
			r.Spec.Networks[name] = maru.Attachment{}
		}
		if got := plan.WorkloadOf(r, 1, virtual, nil).Isolated; got != c.want {
			t.Errorf("%s: isolated %v", c.name, got)
		}
	}
}

func TestImagePorts(t *testing.T) {
	image := maru.ImageConfig{Ports: []maru.Port{{Port: 80, Protocol: maru.TCP}}}
	for _, c := range []struct {
		name    string
		service maru.Service
		want    int
		assumed bool
	}{
		{"the image's own program", maru.Service{}, 1, true},
		{"another program", maru.Service{Container: maru.Container{Command: []string{"worker"}}}, 0, false},
		{"another program, with a route", maru.Service{Container: maru.Container{Command: []string{"x"}}, Routes: []maru.Route{{}}}, 1, false},
		{"declared", maru.Service{Expose: []maru.Port{{Port: 8080, Protocol: maru.TCP}}}, 1, false},
		{"routed to", maru.Service{Routes: []maru.Route{{Port: 8080}}}, 1, false},
	} {
		got := plan.Ports(plan.WithImagePorts(c.service, image))
		if len(got) != c.want || slices.ContainsFunc(got, func(p maru.Port) bool { return p.Assumed != c.assumed }) {
			t.Errorf("%s: ports %+v", c.name, got)
		}
	}
}

func TestReleaseOf(t *testing.T) {
	for name, want := range map[string]struct {
		release int
		serving bool
	}{
		"7": {7, true}, "7.release": {7, false}, "7.seed": {7, false}, "7.after": {7, false}, "7.": {}, "run.x": {}, "x": {}, "0": {}, "-1": {}, "7.other": {}, "": {}, ".release": {},
	} {
		if n, serving := plan.ReleaseOf(name); n != want.release || serving != want.serving {
			t.Errorf("%q: %d %v", name, n, serving)
		}
	}
}

func TestSame(t *testing.T) {
	base := fullRelease
	for _, c := range []struct {
		name   string
		change func(*maru.Release)
		same   bool
	}{
		{"nothing", func(*maru.Release) {}, true},
		{"number, author, source", func(r *maru.Release) { r.Number, r.By, r.Message, r.Source, r.Created = 9, "x", "y", "z", time.Now() }, true},
		{"a tag of the same image", func(r *maru.Release) { r.Image, r.Spec.Image = "web:latest@sha256:1", "web:latest" }, true},
		{"how to build and roll out", func(r *maru.Release) {
			r.Spec.Build, r.Spec.Update.Parallel, r.Spec.DependsOn, r.Spec.Release, r.Spec.Pull = &maru.Build{}, 3, []maru.Dependency{{}}, nil, "always"
		}, true},
		{"the number of instances", func(r *maru.Release) { r.Spec.Replicas = 9 }, true},
		{"the number of a job's", func(r *maru.Release) { r.Spec.Kind, r.Spec.Replicas = maru.Job, 9 }, false},
		{"image", func(r *maru.Release) { r.Image = "web@sha256:2" }, false},
		{"environment", func(r *maru.Release) { r.Spec.Container.Env = map[string]string{"A": "c"} }, false},
		{"config", func(r *maru.Release) { r.Configs = map[string]maru.Config{"conf": {Content: []byte("x=2")}} }, false},
		{"secret", func(r *maru.Release) { r.Secrets = map[string]maru.SecretVersion{"key": {Name: "api-key", Version: 4}} }, false},
		{"network", func(r *maru.Release) { r.Networks = map[string]maru.Network{"default": {}} }, false},
		{"volume", func(r *maru.Release) { r.Volumes = map[string]maru.Volume{"data": {External: true}} }, false},
		{"route", func(r *maru.Release) { r.Spec.Routes = nil }, false},
		{"command: none is not the image's", func(r *maru.Release) { r.Spec.Container.Command = []string{} }, false},
	} {
		a, b := base(), base()
		c.change(&b)
		if got := plan.Same(a, b); got != c.same {
			t.Errorf("%s: same is %v", c.name, got)
		}
		if got := len(plan.Differences(a, b)) == 0; got != c.same && c.name != "the number of a job's" {
			t.Errorf("%s: differences %+v", c.name, plan.Differences(a, b))
		}
	}
}
