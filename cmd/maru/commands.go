package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru/delivery/build/worker"
	"github.com/marucloud/maru/internal/mounts"
)

// platformCommands are those that run the platform itself, which need no server.
func platformCommands() []*cobra.Command {
	return []*cobra.Command{startCommand(), reloadCommand(), shutdownCommand(),
		serverCommand(), proxyCommand(), runtimeCommand(), builderCommand()}
}

func cleanBuilder(p *platform) error { return worker.Clean(p.layout) }

// removeFolders removes what the installation has on the disk, when nothing is mounted there any more.
func removeFolders(p *platform) error {
	var failed []error
	for _, folder := range []string{p.layout.Run, p.layout.Data} {
		mounted, err := mounts.Below(folder)
		switch {
		case err != nil:
			failed = append(failed, err)
		case len(mounted) > 0:
			failed = append(failed, fmt.Errorf("%s is left alone: something is mounted at %v", folder, mounted))
		default:
			failed = append(failed, os.RemoveAll(folder))
		}
	}
	return errors.Join(failed...)
}
