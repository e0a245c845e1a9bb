package source

import (
	"time"

	"github.com/marucloud/maru"
)

// Config tunes Repositories. The zero value of a field is its default.
type Config struct {
	Folder     string        // of the repositories, absolute; required
	MaxPush    int64         // longest pack of a push, bytes; default 2 GiB
	Idle       time.Duration // a client that sends nothing for so long is given up; default 2 min
	KeepAlive  time.Duration // something is sent at least that often while a push waits; default 5 s
	CollectGap time.Duration // between two collections of garbage; default 6 h
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	if c.Folder == "" {
		return maru.Errorf(maru.Invalid, "the folder of the Git repositories is missing")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.MaxPush <= 0 {
		c.MaxPush = 2 << 30
	}
	if c.Idle <= 0 {
		c.Idle = 2 * time.Minute
	}
	if c.KeepAlive <= 0 {
		c.KeepAlive = 5 * time.Second
	}
	if c.CollectGap <= 0 {
		c.CollectGap = 6 * time.Hour
	}
	return c
}
