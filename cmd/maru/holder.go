package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/internal/supervisor"
)

// holder is who keeps the proxy's descriptors while it is restarted: the supervisor, or systemd.
type holder struct {
	listen  func(ctx context.Context, network, address string) (*os.File, error)
	release func(network, address string)
	keep    func(name string, f *os.File) error
	kept    func(name string) (*os.File, error)
	ready   func(version string) error
	watch   func(log *slog.Logger) (stop func()) // for requests to start a successor
}

func holderOf(ctx context.Context, p *platform, parent sockets.Parent) (holder, error) {
	if parent.Supervised {
		return supervisedHolder(ctx, supervisor.Client{Socket: p.layout.SupervisorSocket()}, parent), nil
	}
	store, err := sockets.NewStore(parent)
	if err != nil {
		return holder{}, err
	}
	return holder{
		listen: store.Listen, keep: store.Keep, kept: store.Kept, ready: store.Ready,
		release: func(network, address string) { _ = store.Release(network, address) },
		watch:   func(log *slog.Logger) func() { return succeedOnHangup(store, log) },
	}, nil
}

func supervisedHolder(ctx context.Context, client supervisor.Client, parent sockets.Parent) holder {
	return holder{
		listen:  client.Listen,
		release: func(network, address string) { _ = client.Close(ctx, network, address) },
		keep:    func(name string, f *os.File) error { return client.Keep(ctx, name, f) },
		kept: func(name string) (*os.File, error) {
			file, err := client.Kept(ctx, name)
			if maru.KindOf(err) == maru.NotFound {
				return nil, nil
			}
			return file, err
		},
		ready: parent.Ready,
		watch: func(*slog.Logger) func() { return func() {} },
	}
}

// succeedOnHangup starts a successor for each SIGHUP, which "systemctl reload" sends. The successor
// ends this process by SIGTERM once it is ready.
func succeedOnHangup(store *sockets.Store, log *slog.Logger) (stop func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range hangups {
			if err := store.StartSuccessor(); err != nil {
				log.Error("could not start the successor; this process goes on", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-done
	}
}
