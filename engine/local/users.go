package local

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/userns"
)

// maxUserRanges is how many ranges there are from userns.First on, but for the last: that has the user that
// means none.
const maxUserRanges = 1<<15 - 1

// userRanges hands out ranges of the host's users, one to an instance.
type userRanges struct {
	mu    sync.Mutex
	taken map[userns.Range]bool
	next  int
}

func newUserRanges() *userRanges { return &userRanges{taken: make(map[userns.Range]bool)} }

// take gives a range that nobody has and, as far as there are others, nobody had lately. Exhausted when
// there is none.
func (u *userRanges) take() (userns.Range, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for range maxUserRanges {
		r := userns.First + userns.Range(u.next*userns.Size)
		u.next = (u.next + 1) % maxUserRanges
		if !u.taken[r] {
			u.taken[r] = true
			return r, nil
		}
	}
	return 0, maru.Errorf(maru.Exhausted, "all %d ranges of users for instances are taken", maxUserRanges)
}

// reserve marks the range as taken, of an instance that was there before.
func (u *userRanges) reserve(r userns.Range) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r >= userns.First {
		u.taken[r] = true
		u.next = max(u.next, int(r-userns.First)/userns.Size+1) % maxUserRanges
	}
}

// free gives the range back.
func (u *userRanges) free(r userns.Range) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.taken, r)
}

// tryUsers tells why instances, or those with volumes, can't have users of their own on this machine.
func (e *Engine) tryUsers(ctx context.Context) (all, volumes string) {
	capabilities, err := e.daemon.client.GetSnapshotterCapabilities(inNamespace(ctx), snapshotter)
	if err == nil && !slices.Contains(capabilities, "remap-ids") {
		err = maru.Errorf(maru.Unsupported, "overlayfs of this kernel can't show images with other owners")
	}
	if err == nil {
		err = userns.TryFolder(e.cfg.Layout.ContainerdData())
	}
	if err == nil {
		err = userns.Try(stateFolder(e.cfg.Layout), e.programs.Init)
	}
	if err != nil {
		e.log.Warn("instances have the host's users", "reason", err)
		return err.Error(), ""
	}
	if err := userns.TryFolder(e.cfg.Layout.VolumeData()); err != nil {
		e.log.Warn("instances with volumes have the host's users", "reason", err)
		return "", err.Error()
	}
	return "", ""
}

// Constraints implements [maru.Constrained].
func (e *Engine) Constraints(ctx context.Context) ([]string, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	switch {
	case e.host.noUsers != "":
		return []string{"instances have the host's users: " + e.host.noUsers}, nil
	case e.host.noUserVolumes != "":
		return []string{"instances with volumes have the host's users: " + e.host.noUserVolumes}, nil
	}
	return nil, nil
}

// ownUsers tells whether the instances of a workload have users of their own: none of what they were
// given is the host's, and all can be shown to them with its owners as they are.
func ownUsers(w maru.Workload, image imageInfo, host hostFacts) bool {
	if host.noUsers != "" || reachesHost(w.Container.Host) {
		return false
	}
	for _, m := range w.Container.Mounts {
		if m.Kind == maru.BindMount || m.Kind == maru.ImageMount {
			return false
		}
	}
	if host.noUserVolumes != "" && (len(image.config.Volumes) > 0 || hasVolume(w)) {
		return false
	}
	for name := range w.Container.Sysctls {
		if !strings.HasPrefix(name, "net.") { // not all kernels let others than their own root set these
			return false
		}
	}
	for _, f := range w.Files {
		if f.UID >= userns.Size || f.GID >= userns.Size {
			return false
		}
	}
	who, err := lookUpUser(image, w.Container.User, w.Container.Groups)
	return err == nil && fits(who)
}

// reachesHost tells whether something was granted that is worth less, or nothing, to who is nobody
// outside.
func reachesHost(host maru.HostAccess) bool {
	usual := func(name string) bool { return slices.Contains(defaultCapabilities, capability(name)) }
	return host.Privileged || host.HostNetwork || host.HostPID || host.HostIPC || host.HostUsers ||
		host.CgroupParent != "" || len(host.Devices) > 0 ||
		slices.ContainsFunc(host.CapAdd, func(name string) bool { return !usual(name) }) ||
		slices.ContainsFunc(host.SecurityOpt, func(option string) bool { return strings.HasSuffix(option, "unconfined") })
}

func hasVolume(w maru.Workload) bool {
	return slices.ContainsFunc(w.Container.Mounts, func(m maru.Mount) bool { return m.Kind == maru.VolumeMount })
}

// fits tells whether the user and its groups are among those of a user namespace.
func fits(who specs.User) bool {
	return who.UID < userns.Size && who.GID < userns.Size &&
		!slices.ContainsFunc(who.AdditionalGids, func(gid uint32) bool { return gid >= userns.Size })
}
