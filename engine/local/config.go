package local

import (
	"net/url"
	"runtime"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/logs"
	"github.com/marucloud/maru/internal/layout"
)

// Namespace is the containerd namespace of everything the engine makes.
const Namespace = "maru"

// maxRunPath is how long layout.Layout.Run may be, so that the paths of shims' sockets fit the kernel's limit.
const maxRunPath = 36

// Config is the tuning of an Engine. The zero value is the default.
type Config struct {
	Layout  layout.Layout
	Ranges  maru.Ranges         // addresses of instances and services; zero: maru.DefaultRanges()
	NoMesh  bool                // there is no proxy on this machine: the kernel balances HTTP too
	Mirrors map[string][]string // URLs tried before a registry, by its host; "*" for all. Plain http is allowed for loopback addresses only
	Logs    logs.Config
	Full    float64 // share of the disk in use from which on nothing more can be pushed; 0: 0.95
	Starts  int     // instances started at the same time; 0: twice the number of CPUs
	Seed    uint64  // of the jitter of restarts; 0: random
}

func (c Config) withDefaults() Config {
	c.Layout = c.Layout.Default()
	if c.Ranges == (maru.Ranges{}) {
		c.Ranges = maru.DefaultRanges()
	}
	if c.Full == 0 {
		c.Full = 0.95
	}
	if c.Starts <= 0 {
		c.Starts = 2 * runtime.NumCPU()
	}
	return c
}

// Validate tells what is wrong, as Invalid.
func (c Config) Validate() error {
	c = c.withDefaults()
	if len(c.Layout.Run) > maxRunPath {
		return maru.WithHint(maru.Errorf(maru.Invalid, "the run folder %s is too long for sockets below it", c.Layout.Run),
			"choose one of at most 36 characters, such as /run/maru")
	}
	for host, mirrors := range c.Mirrors {
		for _, mirror := range mirrors {
			if err := checkMirror(mirror); err != nil {
				return maru.Errorf(maru.Invalid, "mirror of %s: %w", host, err)
			}
		}
	}
	return nil
}

func checkMirror(mirror string) error {
	u, err := url.Parse(mirror)
	switch {
	case err != nil:
		return maru.Errorf(maru.Invalid, "%w", err)
	case u.Host == "":
		return maru.Errorf(maru.Invalid, "%q has no host", mirror)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return maru.WithHint(maru.Errorf(maru.Invalid, "%q is not encrypted", mirror), "use https; http is for loopback addresses")
	}
	return maru.Errorf(maru.Invalid, "%q is not an http address", mirror)
}
