// Package diskguard keeps a disk from filling up with what can be made or fetched again.
package diskguard

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Config tunes a Guard. The zero value of a number is its default.
type Config struct {
	Folder string                               // on the disk that is watched
	Full   float64                              // share of the disk in use from which on it is cleaned at once; default 0.85
	Check  time.Duration                        // between looks at the disk; default 1 minute
	Every  time.Duration                        // the disk is cleaned at least so often, however much is free; default 24 hours
	Used   func(folder string) (float64, error) // share of the disk in use; default: the file system's
}

func (c Config) withDefaults() Config {
	if c.Full == 0 {
		c.Full = 0.85
	}
	if c.Check == 0 {
		c.Check = time.Minute
	}
	if c.Every == 0 {
		c.Every = 24 * time.Hour
	}
	if c.Used == nil {
		c.Used = used
	}
	return c
}

// Cleaner removes what is not needed.
type Cleaner struct {
	Images func(context.Context) ([]maru.Image, error) // removes images that nothing uses
	Builds func(context.Context) (int64, error)        // drops cached builds; gives bytes freed. Only asked while the disk is nearly full
	Tell   func(ctx context.Context, message string)   // is told what was removed, in words
}

// Guard watches a disk.
type Guard struct {
	cfg   Config
	clean Cleaner
	log   *slog.Logger
}

// New makes a guard. It starts nothing.
func New(cfg Config, clean Cleaner, log *slog.Logger) *Guard {
	return &Guard{cfg.withDefaults(), clean, log}
}

// Run watches the disk and cleans it until ctx ends. While the disk stays full after a cleaning, the
// next one waits as long as Every, or until more than a hundredth of the disk was filled since.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(g.cfg.Check)
	defer tick.Stop()
	cleaned, after := time.Now(), 0.0
	for {
		share, err := g.cfg.Used(g.cfg.Folder)
		if err != nil {
			g.log.Warn("could not look at the disk", "folder", g.cfg.Folder, "error", err)
		}
		full := share >= g.cfg.Full
		if full && share > after+0.01 || time.Since(cleaned) >= g.cfg.Every {
			g.once(ctx, full)
			cleaned = time.Now()
			if after, err = g.cfg.Used(g.cfg.Folder); err == nil && after >= g.cfg.Full {
				g.log.Warn("the disk is nearly full with what is in use", "folder", g.cfg.Folder, "used", after)
			}
		}
		if !full {
			after = 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (g *Guard) once(ctx context.Context, full bool) {
	var removed []string
	images, err := g.clean.Images(ctx)
	if err != nil && maru.KindOf(err) != maru.Conflict { // a deploy is making some: next time
		g.log.Warn("could not remove unused images", "error", err)
	}
	var bytes int64
	for _, image := range images {
		bytes += image.Bytes
		removed = append(removed, image.Reference)
	}
	var freed int64
	why := "regular cleaning"
	if full {
		why = "the disk was nearly full"
		if freed, err = g.clean.Builds(ctx); err != nil {
			g.log.Warn("could not drop cached builds", "error", err)
		}
	}
	if len(removed) == 0 && freed == 0 {
		return
	}
	g.clean.Tell(ctx, fmt.Sprintf("%s: removed %d unused images with %d MiB and %d MiB of cached builds: %s",
		why, len(removed), bytes>>20, freed>>20, strings.Join(removed, ", ")))
}

// used asks the file system. What only root may use counts as in use.
func used(folder string) (float64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, fmt.Errorf("ask the file system of %s: %w", folder, err)
	}
	if s.Blocks == 0 {
		return 0, nil
	}
	return 1 - float64(s.Bavail)/float64(s.Blocks), nil
}
