package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
)

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (s *shell) execCommand() *cobra.Command {
	start := &maruv1.ExecStart{}
	var noTTY bool
	var env []string
	c := &cobra.Command{Use: "exec [flags] SERVICE COMMAND [ARG…]", Short: "Run a command in an instance",
		Long:              "Exec runs a command in a ready instance of a service, with a terminal when there is one here. It ends with the command's exit code.",
		Example:           "  maru exec web sh\n  maru exec --instance db-2-k3j9x db psql -U postgres\n  echo 'select 1' | maru exec db psql",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: s.completeServices}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		start.Scope, start.Service, start.Args = call.scope, call.args[0], call.args[1:]
		start.Tty = !noTTY && isTerminal(s.Stdin) && isTerminal(s.Stdout)
		var err error
		if start.Env, err = pairs(env); err != nil {
			return err
		}
		code, err := s.attach(ctx, call.Client, start)
		if err != nil {
			return err
		}
		if code != 0 {
			return exitCode(code)
		}
		return nil
	})
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&start.Instance, "instance", "", "in this instance; the beginning of its name is enough")
	c.Flags().StringVarP(&start.User, "user", "u", "", "as this user")
	c.Flags().StringVarP(&start.Dir, "workdir", "w", "", "in this folder")
	c.Flags().StringArrayVarP(&env, "set", "e", nil, "NAME=VALUE in the command's environment; may be repeated")
	c.Flags().BoolVarP(&noTTY, "no-tty", "T", false, "without a terminal")
	return c
}

// attach connects this terminal to a command.
func (s *shell) attach(ctx context.Context, connected *client.Client, start *maruv1.ExecStart) (int, error) {
	streams := client.ExecStreams{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	if start.Tty {
		in := int(s.Stdin.(*os.File).Fd())
		before, err := term.MakeRaw(in)
		if err != nil {
			return 0, maru.Errorf(maru.Invalid, "prepare the terminal: %w", err)
		}
		defer term.Restore(in, before)
		sizes, stop := watchSize(int(s.Stdout.(*os.File).Fd()))
		defer stop()
		streams.Size = sizes
	}
	return connected.RunExec(ctx, start, streams)
}

// pairs reads NAME=VALUE arguments.
func pairs(args []string) (map[string]string, error) {
	values := map[string]string{}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, misuse{fmt.Errorf("%q is not NAME=VALUE", arg)}
		}
		values[name] = value
	}
	return values, nil
}

func (s *shell) runCommand() *cobra.Command {
	request := &maruv1.RunRequest{}
	var env []string
	var release int
	var entrypoint string
	c := &cobra.Command{Use: "run [flags] SERVICE [COMMAND [ARG…]]", Short: "Run a command once in a new instance of a service",
		Long: `Run starts a new instance of a service's release, with its configuration, networks and secrets, but without
traffic, runs a command in it, shows what it writes and removes it. It ends with the command's exit code.`,
		Example: "  maru run web ./manage migrate\n  maru run --release 7 web ./report", Args: cobra.MinimumNArgs(1), ValidArgsFunction: s.completeServices}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		request.Scope, request.Service, request.Args, request.Release = call.scope, call.args[0], call.args[1:], int32(release)
		var err error
		if request.Env, err = pairs(env); err != nil {
			return err
		}
		if entrypoint != "" {
			request.Entrypoint = strings.Fields(entrypoint)
		}
		stream, err := call.Exec.Run(ctx, request)
		if err != nil {
			return err
		}
		defer stream.Close()
		for stream.Receive() {
			switch m := stream.Msg().Message.(type) {
			case *maruv1.RunResponse_Output:
				to := s.Stdout
				if m.Output.Stream == "stderr" {
					to = s.Stderr
				}
				end := "\n"
				if m.Output.Partial {
					end = ""
				}
				fmt.Fprintf(to, "%s%s", m.Output.Line, end)
			case *maruv1.RunResponse_ExitCode:
				if m.ExitCode != 0 {
					return exitCode(m.ExitCode)
				}
				return nil
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		return maru.Errorf(maru.Unavailable, "the connection ended before the command did")
	})
	c.Flags().SetInterspersed(false)
	c.Flags().StringArrayVarP(&env, "set", "e", nil, "NAME=VALUE in the command's environment; may be repeated")
	c.Flags().StringVarP(&request.User, "user", "u", "", "as this user")
	c.Flags().StringVarP(&request.Dir, "workdir", "w", "", "in this folder")
	c.Flags().StringVar(&entrypoint, "entrypoint", "", "instead of the image's")
	c.Flags().IntVar(&release, "release", 0, "in this release (default: the one that serves)")
	return c
}

func (s *shell) forwardCommand() *cobra.Command {
	var instance, address string
	c := &cobra.Command{Use: "forward SERVICE [LOCAL:]PORT…", Short: "Lead ports of this machine to a service's",
		Long:              "Forward listens on ports of this machine and leads each connection to a port of a ready instance, until ^C.",
		Example:           "  maru forward db 5432\n  maru forward web 8081:80 9090",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: s.completeServices}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, arg := range call.args[1:] {
			local, remote, err := ports(arg)
			if err != nil {
				return err
			}
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, local))
			if err != nil {
				return maru.WithHint(maru.Errorf(maru.Conflict, "listen on port %s: %w", local, err), "choose another local port: "+local+"1:"+strconv.Itoa(int(remote)))
			}
			fmt.Fprintf(s.Stderr, "%s leads to %s port %d\n", listener.Addr(), call.args[0], remote)
			start := &maruv1.ForwardStart{Scope: call.scope, Service: call.args[0], Instance: instance, Port: uint32(remote)}
			context.AfterFunc(ctx, func() { _ = listener.Close() })
			group.Go(func() error { return s.forwardAll(ctx, call.Client, start, listener) })
		}
		return group.Wait()
	})
	c.Flags().StringVar(&instance, "instance", "", "to this instance; the beginning of its name is enough")
	c.Flags().StringVar(&address, "address", "127.0.0.1", "listen on this address")
	return c
}

func (s *shell) forwardAll(ctx context.Context, connected *client.Client, start *maruv1.ForwardStart, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			if err := connected.Forward(ctx, start, conn); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
				fmt.Fprintf(s.Stderr, "forward to port %d: %v\n", start.Port, err)
			}
		}()
	}
}

// ports reads [LOCAL:]PORT.
func ports(arg string) (local string, remote uint16, err error) {
	local, far, ok := strings.Cut(arg, ":")
	if !ok {
		far = local
	}
	port, err := strconv.ParseUint(far, 10, 16)
	if _, localErr := strconv.ParseUint(local, 10, 16); err != nil || localErr != nil || port == 0 {
		return "", 0, misuse{fmt.Errorf("%q is not PORT or LOCAL:PORT", arg)}
	}
	return local, uint16(port), nil
}
