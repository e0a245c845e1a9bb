package worker

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build/budget"
	"github.com/marucloud/maru/internal/layout"
)

// Config is the tuning of a Worker. Runc is required; the zero value of all else is the default.
type Config struct {
	Layout      layout.Layout
	Runc        string              // the runc program, absolute
	Namespace   string              // of containerd; default "maru", where instances are started from
	Snapshotter string              // default "overlayfs"
	Mirrors     map[string][]string // URLs tried before a registry, by its host; "*" for all
	Budget      budget.Budget       // of all builds together
	Cache       Cache
	Parallel    int                 // steps of Dockerfiles run at the same time; 0: the number of CPUs
	Network     netip.Prefix        // IPv4 addresses of build steps; default 10.212.0.0/16
	Forbidden   []netip.Prefix      // what build steps can't reach, apart from this machine: the ranges of instances and services
	Idle        time.Duration       // Run ends after so long without a build; 0: 5 minutes; <0: never
	Getenv      func(string) string // reads GOPROXY, GOSUMDB, GONOSUMDB, GOINSECURE, GOPRIVATE; default os.Getenv
}

// Cache bounds what is kept to make later builds quick. It is cut back when builds end.
type Cache struct {
	MaxBytes int64 // 0: a tenth of the disk, at most 20 GiB
	MinFree  int64 // bytes that must stay free on the disk; 0: a tenth of it
}

func (c Config) withDefaults() Config {
	c.Layout = c.Layout.Default()
	if c.Namespace == "" {
		c.Namespace = "maru"
	}
	if c.Snapshotter == "" {
		c.Snapshotter = "overlayfs"
	}
	if c.Parallel <= 0 {
		c.Parallel = runtime.NumCPU()
	}
	if !c.Network.IsValid() {
		c.Network = netip.MustParsePrefix("10.212.0.0/16")
	}
	if c.Forbidden == nil {
		r := maru.DefaultRanges()
		c.Forbidden = []netip.Prefix{r.InstancesV4, r.VirtualV4}
	}
	if c.Idle == 0 {
		c.Idle = 5 * time.Minute
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	c.Budget = c.Budget.WithDefaults()
	return c
}

// Validate tells what is wrong, as Invalid.
func (c Config) Validate() error {
	c = c.withDefaults()
	if !filepath.IsAbs(c.Runc) {
		return maru.Errorf(maru.Invalid, "the path of runc, %q, is not absolute", c.Runc)
	}
	if !c.Network.Addr().Is4() || c.Network.Bits() > 24 {
		return maru.Errorf(maru.Invalid, "the network of builds, %s, is not an IPv4 range of at least 256 addresses", c.Network)
	}
	for host, mirrors := range c.Mirrors {
		for _, mirror := range mirrors {
			u, err := url.Parse(mirror)
			if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
				return maru.Errorf(maru.Invalid, "mirror of %s: %q is not an http address", host, mirror)
			}
		}
	}
	return c.Budget.Validate()
}

// Cgroup is the parent of the builder's cgroups.
func Cgroup(l layout.Layout) string { return filepath.Join(l.Default().Cgroup(), "builder") }
