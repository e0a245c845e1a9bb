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

// streamFlags say how a command's streams are led to this terminal.
type streamFlags struct{ tty, noTTY, stdin bool }

func (f *streamFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&f.tty, "tty", "t", false, "with a terminal (default: where there is one here)")
	c.Flags().BoolVarP(&f.noTTY, "no-tty", "T", false, "without a terminal")
	c.Flags().BoolVarP(&f.stdin, "interactive", "i", true, "give it this command's standard input")
	c.MarkFlagsMutuallyExclusive("tty", "no-tty")
}

// terminal tells whether the command gets a terminal.
func (f *streamFlags) terminal(s *shell) (bool, error) {
	here := isTerminal(s.Stdin) && isTerminal(s.Stdout)
	if f.tty && !here {
		return false, misuse{maru.WithHint(errors.New("standard input and output are not a terminal"), "leave out --tty")}
	}
	return here && f.stdin && !f.noTTY, nil
}

func (s *shell) execCommand() *cobra.Command {
	start := &maruv1.ExecStart{}
	var flags streamFlags
	var env []string
	c := &cobra.Command{Use: "exec [flags] SERVICE COMMAND [ARG…]", Short: "Run a command in an instance",
		Long: `Exec runs a command in a ready instance of a service, with a terminal when there is one here. Signals reach
the command, and it ends with the command's exit code: 127 for a program that is not there, 126 for one
that can't be executed.`,
		Example:           "  maru exec web sh\n  maru exec --instance db-2-k3j9x db psql -U postgres\n  echo 'select 1' | maru exec db psql",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: firstArg(s.completeServices)}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) (err error) {
		start.Scope, start.Service, start.Args = call.scope, call.args[0], call.args[1:]
		if start.Tty, err = flags.terminal(s); err != nil {
			return err
		}
		if start.Env, err = s.variables(env); err != nil {
			return err
		}
		return s.attach(ctx, start.Tty, flags.stdin, func(ctx context.Context, streams client.ExecStreams) (int, error) {
			return call.RunExec(ctx, start, streams)
		})
	})
	c.Flags().SetInterspersed(false)
	c.Flags().StringVar(&start.Instance, "instance", "", "in this instance; the beginning of its name is enough")
	c.Flags().StringVarP(&start.User, "user", "u", "", "as this user")
	c.Flags().StringVarP(&start.Dir, "workdir", "w", "", "in this folder")
	c.Flags().StringArrayVarP(&env, "set", "e", nil, "NAME=VALUE in the command's environment, or NAME as it is here; may be repeated")
	flags.add(c)
	_ = c.RegisterFlagCompletionFunc("instance", s.completeInstances)
	return c
}

// attach connects this terminal to a command, and ends with its exit code.
func (s *shell) attach(ctx context.Context, tty, stdin bool, run func(context.Context, client.ExecStreams) (int, error)) error {
	ctx, signals, stop := passSignals(ctx)
	defer stop()
	streams := client.ExecStreams{Stdout: s.Stdout, Stderr: s.Stderr, Signals: signals}
	if stdin {
		streams.Stdin = s.Stdin
	}
	if tty {
		in := int(s.Stdin.(*os.File).Fd())
		before, err := term.MakeRaw(in)
		if err != nil {
			return maru.Errorf(maru.Invalid, "prepare the terminal: %w", err)
		}
		defer func() { _ = term.Restore(in, before) }() // a terminal that is gone needs nothing
		sizes, stop := watchSize(int(s.Stdout.(*os.File).Fd()))
		defer stop()
		streams.Size = sizes
	}
	code, err := run(ctx, streams)
	switch {
	case err != nil && code != 0:
		return failedWith{err, exitCode(code)}
	case err == nil && code != 0:
		return exitCode(code)
	}
	return err
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

// variables reads NAME=VALUE arguments, and takes the value of one without from the environment here.
func (s *shell) variables(args []string) (map[string]string, error) {
	var full []string
	for _, arg := range args {
		if !strings.Contains(arg, "=") {
			if value := s.Getenv(arg); value != "" {
				full = append(full, arg+"="+value)
			}
			continue
		}
		full = append(full, arg)
	}
	return pairs(full)
}

func (s *shell) forwardCommand() *cobra.Command {
	var instance, address string
	c := &cobra.Command{Use: "forward SERVICE [LOCAL:]PORT…", Short: "Lead ports of this machine to a service's",
		Long:              "Forward listens on ports of this machine and leads each connection to a port of a ready instance, until ^C.",
		Example:           "  maru forward db 5432\n  maru forward web 8081:80 9090",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: firstArg(s.completeServices)}
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
