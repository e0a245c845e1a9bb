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
)

// version is set by the linker.
var version = "unknown"

func main() {
	// The compose loader's library logs there; what matters of it is told at file, line and column.
	logrus.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
