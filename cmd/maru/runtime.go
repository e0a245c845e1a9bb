package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru/engine/local"
	"github.com/marucloud/maru/engine/remote"
	"github.com/marucloud/maru/internal/sockets"
)

func runtimeCommand() *cobra.Command {
	return hidden(command("runtime", "Run the engine (started by 'maru start')", "", func(c *cobra.Command, p *platform) error {
		return runRuntime(c.Context(), p)
	}))
}

func runRuntime(ctx context.Context, p *platform) error {
	parent, err := sockets.FromParent()
	if err != nil {
		return err
	}
	listener, err := parent.Listener("runtime")
	if err != nil {
		return err
	}
	config, err := engineConfig(p)
	if err != nil {
		return err
	}
	log := p.logger("runtime")
	engine, err := local.New(config, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return engine.Run(ctx) })
	group.Go(func() error {
		if err := engine.Ready(ctx); err != nil {
			return nil // Run tells why
		}
		if err := parent.Ready(version); err != nil {
			return err
		}
		return serveEngine(ctx, remote.Handler(remote.ServiceOf(engine), log), listener)
	})
	return ended(ctx, group.Wait())
}

func engineConfig(p *platform) (local.Config, error) {
	ranges, err := p.ranges()
	if err != nil {
		return local.Config{}, err
	}
	mirrors, err := p.mirrorMap()
	return local.Config{Layout: p.layout, Ranges: ranges, Mirrors: mirrors}, err
}

// purgeAll stops all instances and removes everything that this installation has on the machine.
func purgeAll(ctx context.Context, p *platform) error {
	config, err := engineConfig(p)
	if err != nil {
		return err
	}
	log := p.logger("purge")
	return errors.Join(local.Purge(ctx, config, log), cleanBuilder(p), removeFolders(p))
}

// purgeInstances stops all instances and takes their networks, rules and groups away. What was wanted
// of them is the server's to say again.
func purgeInstances(ctx context.Context, p *platform) error {
	config, err := engineConfig(p)
	if err != nil {
		return err
	}
	return errors.Join(local.Purge(ctx, config, p.logger("purge")), cleanBuilder(p))
}

// serveEngine answers until ctx ends. The socket stays open for the successor; the server, which is
// the only client, asks again what it was in the middle of.
func serveEngine(ctx context.Context, handler http.Handler, listener net.Listener) error {
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	accepting := sockets.NewStopListener(listener)
	served := make(chan error, 1)
	go func() { served <- s.Serve(accepting) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	if err := accepting.Stop(); err != nil {
		return err
	}
	<-served //nolint:errcheck // it ended because it was told to
	closing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Second, errors.New("calls in flight get a second to end"))
	defer cancel()
	if err := s.Shutdown(closing); err != nil {
		return s.Close()
	}
	return nil
}
