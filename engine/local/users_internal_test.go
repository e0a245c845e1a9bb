package local

import (
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/userns"
)

func TestUserRanges(t *testing.T) {
	ranges := newUserRanges()
	ranges.reserve(userns.First + 2*userns.Size)
	ranges.reserve(0) // of an instance with the host's
	seen := make(map[userns.Range]bool)
	for range maxUserRanges - 1 {
		r, err := ranges.take()
		if err != nil {
			t.Fatal(err)
		}
		if r < userns.First || r%userns.Size != 0 || r+userns.Size < r || seen[r] || r == userns.First+2*userns.Size {
			t.Fatalf("users from %d on", r)
		}
		seen[r] = true
	}
	if r, err := ranges.take(); maru.KindOf(err) != maru.Exhausted {
		t.Errorf("all are taken: %d, %v", r, err)
	}
	ranges.free(userns.First + 5*userns.Size)
	if r, err := ranges.take(); err != nil || r != userns.First+5*userns.Size {
		t.Errorf("one was given back: %d, %v", r, err)
	}
}

func TestOwnUsers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *maru.Workload, image *imageInfo, host *hostFacts)
		want   bool
	}{
		{"Plain", func(*maru.Workload, *imageInfo, *hostFacts) {}, true},
		{"Volume", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Target: "/data"}, {Kind: maru.TmpfsMount, Target: "/tmp"}}
		}, true},
		{"UsualCapabilities", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Host.CapDrop, w.Container.Host.CapAdd = []string{"ALL"}, []string{"CHOWN", "SETUID"}
		}, true},
		{"NewPrivileges", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Host.SecurityOpt = []string{"no-new-privileges:false"}
		}, true},
		{"NetworkSetting", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Sysctls = map[string]string{"net.core.somaxconn": "77"}
		}, true},
		{"AsTheFileSays", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) { w.Container.Host.HostUsers = true }, false},
		{"HostNetwork", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) { w.Container.Host.HostNetwork = true }, false},
		{"Capability", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) { w.Container.Host.CapAdd = []string{"SYS_NICE"} }, false},
		{"Unconfined", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Host.SecurityOpt = []string{"seccomp=unconfined"}
		}, false},
		{"Bind", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Mounts = []maru.Mount{{Kind: maru.BindMount, Source: "/srv", Target: "/srv"}}
		}, false},
		{"Image", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Mounts = []maru.Mount{{Kind: maru.ImageMount, Source: "assets", Target: "/srv"}}
		}, false},
		{"KernelSetting", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Container.Sysctls = map[string]string{"kernel.shmmax": "77"}
		}, false},
		{"HighUser", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) { w.Container.User = "1000660000" }, false},
		{"HighUserOfTheImage", func(_ *maru.Workload, image *imageInfo, _ *hostFacts) { image.config.User = "0:65536" }, false},
		{"HighGroup", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) { w.Container.Groups = []string{"70000"} }, false},
		{"FileOfHighUser", func(w *maru.Workload, _ *imageInfo, _ *hostFacts) {
			w.Files = []maru.File{{Path: "/x", UID: userns.Size}}
		}, false},
		{"NotHere", func(_ *maru.Workload, _ *imageInfo, host *hostFacts) { host.noUsers = "why" }, false},
		{"VolumeNotHere", func(w *maru.Workload, _ *imageInfo, host *hostFacts) {
			host.noUserVolumes = "why"
			w.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Target: "/data"}}
		}, false},
		{"VolumeOfTheImageNotHere", func(_ *maru.Workload, image *imageInfo, host *hostFacts) {
			host.noUserVolumes, image.config.Volumes = "why", []string{"/data"}
		}, false},
		{"NoVolumeThere", func(_ *maru.Workload, _ *imageInfo, host *hostFacts) { host.noUserVolumes = "why" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w maru.Workload
			var image imageInfo
			var host hostFacts
			c.change(&w, &image, &host)
			if got := ownUsers(w, image, host); got != c.want {
				t.Errorf("%t, want %t", got, c.want)
			}
		})
	}
}
