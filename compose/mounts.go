package compose

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// mounts reads volumes and tmpfs.
func (s *service) mounts() {
	for i, v := range s.in.Volumes {
		at := []string{"volumes", fmt.Sprint(i)}
		if !path.IsAbs(v.Target) {
			s.fail(maru.Invalid, fmt.Sprintf("the target %q is not an absolute path", v.Target), "write /"+v.Target, at...)
			continue
		}
		m := maru.Mount{Target: path.Clean(v.Target), ReadOnly: v.ReadOnly}
		switch v.Type {
		case types.VolumeTypeVolume:
			s.volumeMount(&m, v, at)
		case types.VolumeTypeBind:
			s.bindMount(&m, v, at)
		case types.VolumeTypeTmpfs:
			m.Kind = maru.TmpfsMount
			if v.Tmpfs != nil {
				m.Size, m.Mode = int64(v.Tmpfs.Size), v.Tmpfs.Mode
			}
		case types.VolumeTypeImage:
			m.Kind, m.Source, m.ReadOnly = maru.ImageMount, v.Source, true
			if v.Image != nil {
				m.Subpath = v.Image.SubPath
			}
		default:
			s.fail(maru.Invalid, fmt.Sprintf("%q is not a type of mount", v.Type), didYouMeanOr(v.Type, []string{"volume", "bind", "tmpfs", "image"}), at...)
			continue
		}
		s.out.Container.Mounts = append(s.out.Container.Mounts, m)
	}
	for i, text := range s.in.Tmpfs {
		s.tmpfs(text, "tmpfs", fmt.Sprint(i))
	}
}

func (s *service) volumeMount(m *maru.Mount, v types.ServiceVolumeConfig, at []string) {
	m.Kind, m.Source = maru.VolumeMount, v.Source
	if v.Volume != nil {
		m.NoCopy, m.Subpath = v.Volume.NoCopy, v.Volume.Subpath
		if m.Subpath != "" && !isInside(m.Subpath) {
			s.fail(maru.Invalid, fmt.Sprintf("the subpath %q leads out of the volume", m.Subpath), "", at...)
		}
	}
	if v.Source == "" {
		s.warn("A volume without a name goes with its instance, and so does what is in it.",
			"to keep it, give it a name: data:"+v.Target+", and write volumes: {data: {}} at the top", at...)
		return
	}
	s.l.volume(v.Source, m)
	if m.Kind == maru.BindMount {
		s.l.bound[m.Source] = true
	}
}

func isInside(subpath string) bool {
	clean := path.Clean(subpath)
	return !path.IsAbs(clean) && clean != ".." && !strings.HasPrefix(clean, "../")
}

// volume adds a volume that a service mounts. The local driver's options can make the mount one of
// another kind.
func (l *load) volume(key string, m *maru.Mount) {
	in, at := l.proj.Volumes[key], "volumes."+key
	if len(in.DriverOpts) > 0 {
		l.driverMount(key, in.DriverOpts, m)
		return
	}
	if _, ok := l.app.Volumes[key]; ok {
		return
	}
	if err := maru.CheckName("volume", key); err != nil {
		l.failErr(l.place("volumes", key), at, maru.Invalid, err)
	}
	out := maru.Volume{}
	if len(in.Labels) > 0 {
		out.Labels = in.Labels
	}
	if in.External {
		out.External, out.Name = true, in.Name
		l.checkExternal("volume", "volumes", key, in.Name)
	} else if l.src.get("volumes", key, "name") != nil {
		e := exceptionOf("volumes.*.name")
		l.warn(l.place("volumes", key, "name"), at+".name", e.means, e.instead)
	}
	l.app.Volumes[key] = out
}

// driverMount does what the options of Docker's local driver say: they are those of mount.
func (l *load) driverMount(key string, opts map[string]string, m *maru.Mount) {
	at, path := l.place("volumes", key, "driver_opts"), "volumes."+key+".driver_opts"
	options := strings.Split(opts["o"], ",")
	switch {
	case slices.Contains(options, "bind") && opts["device"] != "":
		m.Kind, m.Source = maru.BindMount, absolute(l.project, opts["device"])
		if err := l.lasting(m.Source); err != nil {
			l.fail(at, path, maru.Invalid, err.Error(), maru.HintOf(err))
		}
		m.ReadOnly = m.ReadOnly || slices.Contains(options, "ro")
	case opts["type"] == "tmpfs":
		m.Kind, m.Source = maru.TmpfsMount, ""
		if err := tmpfsOptions(m, options); err != nil {
			l.fail(at, path, maru.Invalid, err.Error(), "write o: size=64m,mode=1777")
		}
	default:
		l.fail(at, path, maru.Unsupported, "Maru mounts no file systems by itself: volumes are folders of the machine, which it backs up and restores.",
			"leave driver_opts out, or mount the file system on the host and bind its path")
	}
}

// lasting tells whether a bind mount is of what stays when the files are gone that were loaded.
func (l *load) lasting(source string) error {
	if l.o.Root == "" || !within(l.o.Root, source) {
		return nil
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "%s is in the repository, of which the server has no folder that stays", l.shown(source)),
		"copy it into the image, or make it a config: configs: {name: {file: "+l.shown(source)+"}}")
}

func (s *service) bindMount(m *maru.Mount, v types.ServiceVolumeConfig, at []string) {
	m.Kind, m.Source = maru.BindMount, v.Source
	if v.Bind != nil {
		m.Create = bool(v.Bind.CreateHostPath)
		m.Propagation = v.Bind.Propagation
	}
	if !path.IsAbs(v.Source) {
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a path of the host", v.Source), "write ./FOLDER or /FOLDER", at...)
		return
	}
	m.Source = path.Clean(v.Source)
	if err := s.l.lasting(m.Source); err != nil {
		s.fail(maru.Invalid, err.Error(), maru.HintOf(err), at...)
		return
	}
	s.l.bound[m.Source] = true
	if strings.HasSuffix(m.Source, "/docker.sock") {
		s.warn("Maru is not Docker: a program that manages containers through this socket does not see those of Maru.",
			"leave it out; routes, certificates, logs and metrics are Maru's own", at...)
	}
}

// tmpfs reads the short form, a path with options.
func (s *service) tmpfs(text string, at ...string) {
	target, options, _ := strings.Cut(text, ":")
	m := maru.Mount{Kind: maru.TmpfsMount, Target: path.Clean(target)}
	if !path.IsAbs(target) {
		s.fail(maru.Invalid, fmt.Sprintf("the target %q is not an absolute path", target), "write /"+target, at...)
		return
	}
	if err := tmpfsOptions(&m, strings.Split(options, ",")); err != nil {
		s.fail(maru.Invalid, err.Error(), "write /run:size=64m,mode=1777", at...)
	}
	s.out.Container.Mounts = append(s.out.Container.Mounts, m)
}

// tmpfsOptions reads the options that bound a tmpfs. Those that say what is so anyway are passed over.
func tmpfsOptions(m *maru.Mount, options []string) error {
	for _, option := range options {
		name, value, _ := strings.Cut(strings.TrimSpace(option), "=")
		switch name {
		case "size":
			var size types.UnitBytes
			if err := size.DecodeMapstructure(value); err != nil || size < 0 {
				return fmt.Errorf("%q is not a size", value)
			}
			m.Size = int64(size)
		case "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				return fmt.Errorf("%q is not a mode", value)
			}
			m.Mode = uint32(mode)
		case "ro":
			m.ReadOnly = true
		case "", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "uid", "gid", "nr_inodes", "nr_blocks":
		default:
			return fmt.Errorf("%q is not an option of a tmpfs", name)
		}
	}
	return nil
}

// hostFolders are those where a mount that can be written to keeps no data of the service.
var hostFolders = []string{"/dev", "/etc", "/proc", "/run", "/sys", "/var/run"}

// writable gives the mounts that two releases must not write to at once.
func (s *service) writable() []maru.Mount {
	var mounts []maru.Mount
	for _, m := range s.out.Container.Mounts {
		if m.ReadOnly || m.Source == "" {
			continue
		}
		bind := m.Kind == maru.BindMount && !slices.ContainsFunc(hostFolders, func(f string) bool { return m.Source == f || strings.HasPrefix(m.Source, f+"/") })
		if holds(m) || bind {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// share lets several instances hold the service's volumes when the file says that they may. Without
// that there can be one.
func (s *service) share(said bool) {
	held := s.writable()
	if len(held) == 0 {
		return
	}
	if said {
		for i, m := range s.out.Container.Mounts {
			s.out.Container.Mounts[i].Shared = holds(m)
		}
		return
	}
	if s.out.Replicas < 2 {
		return
	}
	at := s.replicasKey()
	for _, m := range held {
		if m.Kind == maru.VolumeMount {
			s.fail(maru.Unsupported, fmt.Sprintf("%d instances would write to the volume %s at once, and a volume has one holder at a time", s.out.Replicas, m.Source),
				"run one instance, mount the volume read_only, or say that the instances may share it: x-maru: {rollout: rolling}", at...)
			return
		}
	}
	s.warn(fmt.Sprintf("%d instances write to the folder %s of the host at once.", s.out.Replicas, s.l.shown(held[0].Source)), "mount it with :ro, or run one instance", at...)
}

// volumesFrom adds the mounts of other services.
func (s *service) volumesFrom(all map[string]*service) {
	for i, text := range s.in.VolumesFrom {
		from, mode, _ := strings.Cut(text, ":")
		source, ok := all[from]
		if !ok {
			s.fail(maru.Invalid, fmt.Sprintf("there is no service called %q", from), didYouMean(from, sortedKeys(all)), "volumes_from", fmt.Sprint(i))
			continue
		}
		for _, m := range source.out.Container.Mounts {
			taken := func(o maru.Mount) bool { return o.Target == m.Target }
			if m.Source == "" || slices.ContainsFunc(s.out.Container.Mounts, taken) {
				continue
			}
			m.ReadOnly = m.ReadOnly || mode == "ro"
			s.out.Container.Mounts = append(s.out.Container.Mounts, m)
		}
	}
}

// holds tells whether an instance with the mount holds a volume.
func holds(m maru.Mount) bool {
	return m.Kind == maru.VolumeMount && m.Source != "" && !m.ReadOnly
}
