// Command maru is the whole platform: its processes, and the commands that talk to them.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"

	"github.com/marucloud/maru/cli"
	"github.com/marucloud/maru/traffic"
)

// version is set by the linker.
var version = "unknown"

func main() {
	// The compose loader's library logs there; what matters of it is told at file, line and column.
	logrus.SetOutput(io.Discard)
	ctx, stop := untilSignalled()
	defer stop()
	root := cli.New(cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ, Version: version,
	})
	root.AddCommand(platformCommands()...)
	code := cli.Execute(ctx, root)
	stop()
	os.Exit(code)
}

// untilSignalled gives a context that ends when the program is asked to end: by SIGINT when nobody comes
// after it, by SIGTERM when a successor may.
func untilSignalled() (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-asked:
			cause := context.Canceled
			if s == os.Interrupt {
				cause = traffic.ErrNoSuccessor
			}
			cancel(cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(asked); cancel(nil) }
}
