package main

import (
	"context"
	"net/netip"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru/delivery/build/worker"
	"github.com/marucloud/maru/engine/local/bin"
	"github.com/marucloud/maru/internal/sockets"
)

func builderCommand() *cobra.Command {
	return hidden(command("builder", "Run the builder (started on demand)", "", func(c *cobra.Command, p *platform) error {
		return runBuilder(c.Context(), p)
	}))
}

func runBuilder(ctx context.Context, p *platform) error {
	parent, err := sockets.FromParent()
	if err != nil {
		return err
	}
	listener, err := parent.Listener("builder")
	if err != nil {
		return err
	}
	config, err := builderConfig(p)
	if err != nil {
		return err
	}
	log := p.logger("builder")
	if err := worker.Confine(config, log); err != nil {
		return err
	}
	w, err := worker.New(config, log)
	if err != nil {
		return err
	}
	if err := parent.Ready(version); err != nil {
		return err
	}
	return ended(ctx, w.Run(ctx, listener))
}

func builderConfig(p *platform) (worker.Config, error) {
	ranges, err := p.ranges()
	if err != nil {
		return worker.Config{}, err
	}
	mirrors, err := p.mirrorMap()
	if err != nil {
		return worker.Config{}, err
	}
	programs, err := bin.Install(filepath.Join(p.layout.RuntimeData(), "bin"))
	if err != nil {
		return worker.Config{}, err
	}
	return worker.Config{
		Layout: p.layout, Runc: programs.Runc, Mirrors: mirrors,
		Forbidden: []netip.Prefix{ranges.InstancesV4, ranges.VirtualV4},
	}, nil
}
