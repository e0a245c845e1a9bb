package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
)

func (s *shell) runCommand() *cobra.Command {
	request := &maruv1.RunRequest{}
	var flags streamFlags
	var env []string
	var release int
	var entrypoint string
	var detach bool
	c := &cobra.Command{Use: "run [flags] SERVICE [COMMAND [ARG…]]", Short: "Run a command once in a new instance of a service",
		Long: `Run starts a new instance of a service's release, with its configuration, volumes, networks and secrets, but
without traffic, and runs a command in it: the service's own, or the one given, after the same entry point.
It has a terminal when there is one here. Signals reach the command, the instance goes when the command
ends or this one does, and run ends with the command's exit code: 127 for a program that is not there, 126
for one that can't be executed. With --detach it goes on by itself, and 'maru logs' has what it writes.`,
		Example: `  maru run web ./manage migrate
  maru run --entrypoint sh web                  # in an image whose entry point is another program
  maru run -e DEBUG=1 -u root web sh
  pg_dump old | maru run db psql -h db
  maru run --detach --release 7 web ./report`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: firstArg(s.completeServices)}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) (err error) {
		request.Scope, request.Service, request.Args, request.Release = call.scope, call.args[0], call.args[1:], int32(release)
		if request.Env, err = s.variables(env); err != nil {
			return err
		}
		if c.Flags().Changed("entrypoint") {
			words, err := compose.Words(entrypoint)
			if err != nil {
				return misuse{maru.Errorf(maru.Invalid, "--entrypoint: %w", err)}
			}
			request.Entrypoint = &maruv1.Entrypoint{Args: words}
		}
		if detach {
			return s.runDetached(ctx, call, request)
		}
		run := &maruv1.RunStart{Command: request}
		if run.Tty, err = flags.terminal(s); err != nil {
			return err
		}
		return s.attach(ctx, run.Tty, flags.stdin, func(ctx context.Context, streams client.ExecStreams) (int, error) {
			return call.RunOnce(ctx, run, streams)
		})
	})
	c.Flags().SetInterspersed(false)
	c.Flags().StringArrayVarP(&env, "set", "e", nil, "NAME=VALUE in the command's environment, or NAME as it is here; may be repeated")
	c.Flags().StringVarP(&request.User, "user", "u", "", "as this user")
	c.Flags().StringVarP(&request.Dir, "workdir", "w", "", "in this folder")
	c.Flags().StringVar(&entrypoint, "entrypoint", "", "instead of the service's and the image's; '' for none")
	c.Flags().IntVar(&release, "release", 0, "in this release (default: the one that serves)")
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when it has begun")
	c.Flags().Bool("rm", true, "the instance always goes: this is for those who are used to typing it")
	_ = c.Flags().MarkHidden("rm")
	flags.add(c)
	return c
}

func (s *shell) runDetached(ctx context.Context, call appCall, request *maruv1.RunRequest) error {
	begun, err := call.Exec.Run(ctx, request)
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printMessage(begun)
	}
	fmt.Fprintln(s.Stdout, begun.Workload)
	if !s.quiet {
		fmt.Fprintf(s.Stderr, "what it writes: maru logs --app %s --release %s %s\n", call.scope.App, begun.Workload, request.Service)
	}
	return nil
}
