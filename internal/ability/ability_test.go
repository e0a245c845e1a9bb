package ability

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

func bind(source string, readOnly bool, propagation string) maru.Mount {
	return maru.Mount{Kind: maru.BindMount, Source: source, Target: "/x", ReadOnly: readOnly, Propagation: propagation}
}

func TestNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		container maru.Container
		want      []string
	}{
		"nothing":           {maru.Container{}, nil},
		"volumes and tmpfs": {maru.Container{Mounts: []maru.Mount{{Kind: maru.VolumeMount, Source: "a"}, {Kind: maru.TmpfsMount}, {Kind: maru.ImageMount}}}, nil},
		"binds": {
			maru.Container{Mounts: []maru.Mount{bind("/srv/a/", false, ""), bind("/srv/b/../c", true, "rprivate"), bind("/srv/a", false, "rshared"), bind("/srv/d", true, "rslave")}},
			[]string{"bind-ro:/srv/c", "bind-ro:/srv/d", "bind:/srv/a", "mount-propagation"},
		},
		"usual capabilities": {maru.Container{Host: maru.HostAccess{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN", "CAP_SETUID", "net_bind_service"}}}, nil},
		"capabilities":       {maru.Container{Host: maru.HostAccess{CapAdd: []string{"NET_RAW", "cap_sys_admin", "ALL"}}}, []string{"cap:ALL", "cap:NET_RAW", "cap:SYS_ADMIN"}},
		"devices":            {maru.Container{Host: maru.HostAccess{Devices: []maru.Device{{Source: "/dev/dri/../kvm"}, {Source: "vendor.com/gpu=all"}}}}, []string{"device:/dev/kvm", "device:vendor.com/gpu=all"}},
		"options": {
			maru.Container{Host: maru.HostAccess{SecurityOpt: []string{"no-new-privileges:true", "no-new-privileges", "no-new-privileges=false", "seccomp:unconfined", "label=user:x"}}},
			[]string{"security-opt:label=user:x", "security-opt:no-new-privileges=false", "security-opt:seccomp=unconfined"},
		},
		"namespaces": {
			maru.Container{Host: maru.HostAccess{Privileged: true, HostNetwork: true, HostPID: true, HostIPC: true, HostUsers: true, CgroupParent: "/x/"}},
			[]string{"cgroup-parent:/x", "hostipc", "hostnet", "hostpid", "hostusers", "privileged"},
		},
		"spared":       {maru.Container{OOMScoreAdj: -500, Resources: maru.Resources{OOMKillDisable: true}}, []string{"oom-score"}},
		"not spared":   {maru.Container{OOMScoreAdj: 500}, nil},
		"relative":     {maru.Container{Mounts: []maru.Mount{bind("../x", false, "")}}, []string{"bind:../x"}},
		"no source":    {maru.Container{Mounts: []maru.Mount{bind("", false, "")}}, []string{"bind:."}},
		"same for two": {maru.Container{Mounts: []maru.Mount{bind("/a", false, ""), bind("/a/", false, "")}}, []string{"bind:/a"}},
	} {
		if d := cmp.Diff(c.want, Needs(maru.Service{Container: c.container})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if got := Needs(maru.Service{Build: &maru.Build{Network: "host"}}); !slices.Equal(got, []string{HostNetwork}) {
		t.Errorf("a build needs %q", got)
	}
}

func TestIncludes(t *testing.T) {
	for _, c := range []struct {
		ability, need string
		want          bool
	}{
		{"host", "privileged", true},
		{"host", "bind:../x", true},
		{"bind:/srv", "bind:/srv", true},
		{"bind:/srv", "bind:/srv/a/b", true},
		{"bind:/srv", "bind:/srv2", false},
		{"bind:/srv", "bind:/", false},
		{"bind:/srv", "bind-ro:/srv/a", true},
		{"bind:/srv", "mount-propagation", false},
		{"bind-ro:/srv", "bind:/srv", false},
		{"bind-ro:/srv", "bind-ro:/srv/x", true},
		{"bind:/", "bind:/etc", true},
		{"bind:/", "bind:../etc", false},
		{"bind:/", "device:/dev/sda", false},
		{"device:/dev", "device:/dev/sda", true},
		{"device:/dev/sda", "device:/dev/sdab", false},
		{"device:/", "device:vendor.com/gpu=all", false},
		{"device:vendor.com/gpu=all", "device:vendor.com/gpu=all", true},
		{"cap:ALL", "cap:SYS_ADMIN", true},
		{"cap:NET_ADMIN", "cap:SYS_ADMIN", false},
		{"cap:NET_ADMIN", "cap:ALL", false},
		{"privileged", "cap:ALL", true},
		{"privileged", "device:/dev/sda", true},
		{"privileged", "security-opt:seccomp=unconfined", true},
		{"privileged", "bind:/etc", false},
		{"privileged", "hostnet", false},
		{"hostnet", "hostpid", false},
		{"security-opt:seccomp=unconfined", "security-opt:label=disable", false},
		{"cgroup-parent:/a", "cgroup-parent:/a/b", true},
	} {
		if got := Includes(c.ability, c.need); got != c.want {
			t.Errorf("%s includes %s: %v", c.ability, c.need, got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"host": "host", "bind:/srv/": "bind:/srv", "bind:/a/../b": "bind:/b", "cap:cap_net_admin": "cap:NET_ADMIN",
		"device:/dev/dri/": "device:/dev/dri", "security-opt:seccomp:unconfined": "security-opt:seccomp=unconfined",
		"": "", "bind": "", "bind:": "", "bind:srv": "", "host:x": "", "hostnet:": "", "everything": "", "cap:": "",
	} {
		got, err := Parse(text)
		if got != want || (want == "") != (maru.KindOf(err) == maru.Invalid) {
			t.Errorf("%q gave %q, %v", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range alone {
		f.Add(text)
	}
	for _, kind := range valued {
		f.Add(kind + "/x")
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(parsed); err != nil || again != parsed {
			t.Errorf("%q became %q, then %q, %v", text, parsed, again, err)
		}
		if !Includes(parsed, parsed) || !Includes(Host, parsed) {
			t.Errorf("%q does not include itself", parsed)
		}
	})
}

// TestNeedsCanBeGranted: what Needs writes is what Parse gives for it.
func TestNeedsCanBeGranted(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringMatching(`[a-zA-Z/:=._-]{1,8}`)
		service := maru.Service{Container: maru.Container{
			Mounts: []maru.Mount{bind("/"+text.Draw(r, "path"), rapid.Bool().Draw(r, "read only"), rapid.SampledFrom([]string{"", "rshared"}).Draw(r, "propagation"))},
			Host: maru.HostAccess{
				CapAdd: []string{text.Draw(r, "capability")}, Devices: []maru.Device{{Source: "/" + text.Draw(r, "device")}},
				SecurityOpt: []string{text.Draw(r, "option")}, CgroupParent: "/" + text.Draw(r, "parent"),
				HostNetwork: rapid.Bool().Draw(r, "network"), Privileged: rapid.Bool().Draw(r, "privileged"),
			},
		}}
		for _, need := range Needs(service) {
			parsed, err := Parse(need)
			if need == "cap:" && err != nil {
				continue // nothing but CAP_: no such capability
			}
			if err != nil || parsed != need || !Includes(parsed, need) {
				r.Fatalf("%q was parsed as %q, %v", need, parsed, err)
			}
		}
	})
}

func TestGranted(t *testing.T) {
	shop := maru.Scope{Project: "default", Environment: "production", App: "shop"}
	grants := []maru.Grant{
		{Scope: maru.Scope{Project: "default"}, Ability: "bind:/srv"},
		{Scope: shop, Ability: "cap:NET_ADMIN"},
	}
	other := shop
	other.App = "other"
	for _, c := range []struct {
		scope maru.Scope
		need  string
		want  bool
	}{
		{shop, "bind:/srv/x", true},
		{other, "bind:/srv/x", true},
		{shop, "cap:NET_ADMIN", true},
		{other, "cap:NET_ADMIN", false},
		{maru.Scope{Project: "b", Environment: "production", App: "shop"}, "bind:/srv/x", false},
	} {
		if got := Granted(grants, c.scope, c.need); got != c.want {
			t.Errorf("%s has %s: %v", c.scope, c.need, got)
		}
	}
}

func TestCommand(t *testing.T) {
	for want, scope := range map[string]maru.Scope{
		"maru grant hostpid --project default --env production --app shop": {Project: "default", Environment: "production", App: "shop"},
		"maru grant hostpid --project default":                             {Project: "default"},
		"maru grant hostpid":                                               {},
	} {
		if got := Command(scope, HostPID); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		need := "bind:/" + rapid.StringMatching(`[a-z '"$\\*!;&|<>()\x60~#-]{0,12}`).Draw(r, "path")
		command := strings.TrimPrefix(Command(maru.Scope{App: "a"}, need, HostPID), "maru grant ")
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\n' "+command).Output()
		if err != nil || string(out) != need+"\nhostpid\n--app\na\n" {
			r.Fatalf("%s gave %q, %v", command, out, err)
		}
	})
}
