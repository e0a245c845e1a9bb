package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/layout"
	"github.com/marucloud/maru/internal/supervisor"
)

// startTimeout is how long a detached start may take until the API answers.
const startTimeout = time.Minute

func startCommand() *cobra.Command {
	var detach bool
	return command("start", "Run the platform on this machine",
		`Start runs the platform: it starts the control plane, the proxy and the runtime, keeps them
running, and holds their listening sockets meanwhile. Processes that an earlier start left are adopted.

It ends the processes when it gets SIGTERM or ^C; instances run on. "maru shutdown" does the same from
elsewhere. Under systemd ("make install") units take its place.`,
		func(c *cobra.Command, p *platform) error {
			if err := p.requireRoot(); err != nil {
				return err
			}
			if underSystemd(c.Context(), p) {
				return maru.WithHint(maru.Errorf(maru.Conflict, "Maru is running already: systemd runs it"),
					"look with 'maru status --platform' or 'systemctl status maru.target'; for a second installation give --name, and other addresses")
			}
			if err := reachable(p); err != nil {
				return err
			}
			if detach {
				return startDetached(c.Context(), p, c.OutOrStdout())
			}
			return start(c.Context(), p)
		}, func(flags *pflag.FlagSet, _ *platform) {
			flags.BoolVarP(&detach, "detach", "d", false, "run in the background; return when the API answers")
		})
}

// reachable checks that the proxy's user gets to the sockets of the other processes.
func reachable(p *platform) error {
	closed, err := layout.ClosedAt(p.layout.Run)
	if err != nil || closed == "" {
		return err
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "--run: %s is closed to other users, and the proxy runs as one", closed),
		"give a folder that everybody may pass, or open this one: chmod o+x "+closed)
}

func start(ctx context.Context, p *platform) error {
	specs, err := processes(p)
	if err != nil {
		return err
	}
	if err := p.save(); err != nil {
		return fmt.Errorf("keep the settings: %w", err)
	}
	log := p.logger("start")
	log.Info("starting", "version", version, "data", p.layout.Data, "run", p.layout.Run, "http", p.http, "https", p.https)
	return supervisor.New(supervisor.Config{Run: p.layout.Run, Socket: p.layout.SupervisorSocket(), Processes: specs}, log).Run(ctx)
}

// processes says what runs, in the order of starting.
func processes(p *platform) ([]supervisor.Spec, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	uid, gid, err := p.proxyIDs()
	if err != nil {
		return nil, err
	}
	if _, err := p.accessLogFormat(); err != nil {
		return nil, err
	}
	// The proxy can't make its own folder: it may write nowhere else.
	if err := errors.Join(os.MkdirAll(p.layout.ProxyData(), 0o700), os.Chown(p.layout.ProxyData(), uid, gid)); err != nil {
		return nil, fmt.Errorf("make the proxy's folder: %w", err)
	}
	ranges, err := p.ranges()
	if err != nil {
		return nil, err
	}
	run := func(name string) []string { return append([]string{self, name}, p.arguments()...) }
	return []supervisor.Spec{
		{Name: "runtime", Command: run("runtime"), Sockets: []supervisor.Socket{
			{Name: "runtime", Network: "unix", Address: p.layout.RuntimeSocket(), Mode: 0o600},
		}},
		{Name: "server", Command: run("server"), Sockets: []supervisor.Socket{
			// Who may do what is decided by the peer's credentials.
			{Name: "api", Network: "unix", Address: p.layout.ServerSocket(), Mode: 0o666},
			{Name: "api-tls", Network: "tcp", Address: p.api},
			{Name: "traffic", Network: "unix", Address: p.layout.TrafficSocket(), Mode: 0o660, GID: gid},
			{Name: "gateway", Network: "unix", Address: p.layout.GatewaySocket(), Mode: 0o660, GID: gid},
		}},
		{Name: "proxy", Command: run("proxy"), UID: uid, GID: gid, Overlap: true, Sockets: proxySockets(p, ranges), Folder: p.layout.ProxyData(), Grace: 10 * time.Minute},
		{Name: "builder", Command: run("builder"), OnDemand: true, Sockets: []supervisor.Socket{
			{Name: "builder", Network: "unix", Address: p.layout.BuilderSocket(), Mode: 0o600},
		}},
	}, nil
}

func proxySockets(p *platform, ranges maru.Ranges) []supervisor.Socket {
	all := []supervisor.Socket{
		{Name: "http", Network: "tcp", Address: p.http},
		{Name: "https", Network: "tcp", Address: p.https},
	}
	if p.http3 != "off" {
		all = append(all, supervisor.Socket{Name: "quic", Network: "udp", Address: p.http3})
	}
	host := ranges.Host()
	mesh, dns := strconv.Itoa(maru.MeshPort), strconv.Itoa(maru.DNSPort)
	family := func(suffix, address string) {
		all = append(all,
			supervisor.Socket{Name: "mesh" + suffix, Network: "tcp" + suffix, Address: net.JoinHostPort(address, mesh)},
			supervisor.Socket{Name: "dns-udp" + suffix, Network: "udp" + suffix, Address: net.JoinHostPort(address, dns)},
			supervisor.Socket{Name: "dns-tcp" + suffix, Network: "tcp" + suffix, Address: net.JoinHostPort(address, dns)})
	}
	family("4", host.V4.String())
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		family("6", host.V6.String())
	}
	return all
}

// startDetached runs start in a process of its own and waits until the API answers.
func startDetached(ctx context.Context, p *platform, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	logPath := filepath.Join(p.layout.Data, "maru.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(self, append([]string{"start"}, p.arguments()...)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the platform was not ready in time"))
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for waiting := []string{"the supervisor"}; ; {
		if names, err := unready(ctx, p); err == nil {
			waiting = names
		}
		if len(waiting) == 0 {
			fmt.Fprintf(out, "Maru runs in the background (process %d, log %s).\nStop it with: maru shutdown --run %s\n", cmd.Process.Pid, logPath, p.layout.Run)
			return nil
		}
		select {
		case <-ticker.C:
		case err := <-ended:
			return maru.WithHint(maru.Errorf(maru.Internal, "start: %w\n%s", err, lastLines(logPath)), "the whole log is "+logPath)
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended //nolint:errcheck // what it says is in the log
			return maru.WithHint(maru.Errorf(maru.Unavailable, "start: %w: still waiting for %s\n%s", context.Cause(ctx), strings.Join(waiting, ", "), lastLines(logPath)), "the whole log is "+logPath)
		}
	}
}

// lastLines gives the end of a log, for an error message.
func lastLines(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data[max(0, len(data)-2000):])
}

// unready gives the processes that are not ready, of those that run all the time.
func unready(ctx context.Context, p *platform) (names []string, err error) {
	all, err := supervisor.Client{Socket: p.layout.SupervisorSocket()}.Status(ctx)
	for _, process := range all {
		if !process.Ready && process.Name != "builder" {
			names = append(names, process.Name)
		}
	}
	return names, err
}

func reloadCommand() *cobra.Command {
	var p platform
	c := &cobra.Command{
		Use: "reload PROCESS", Short: "Replace one of the platform's processes without losing a request",
		Long: `Reload ends one of the processes runtime, server, proxy and builder in good order and starts its
successor from the program on the disk. So an upgrade goes one process at a time: put the new program in
place, then reload runtime, server and proxy, in this order.`,
		Args: cobra.ExactArgs(1), GroupID: "platform", ValidArgs: []string{"runtime", "server", "proxy", "builder"},
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.complete(); err != nil {
				return err
			}
			if underSystemd(c.Context(), &p) {
				return reloadUnit(c.Context(), args[0])
			}
			return supervisor.Client{Socket: p.layout.SupervisorSocket()}.Restart(c.Context(), args[0])
		},
	}
	p.register(c.Flags())
	return c
}

func shutdownCommand() *cobra.Command {
	var instances, purge bool
	return command("shutdown", "End the platform on this machine",
		`Shutdown ends the platform's processes. Instances run on, and the next start finds them.

With --stop-instances it also stops all instances, and takes away their networks and rules; all data stays,
and the next start starts them again.

With --purge it also stops all instances and removes all that Maru has on this machine: data, volumes,
images, logs, networks, rules. There is no way back.`,
		func(c *cobra.Command, p *platform) error {
			if err := p.requireRoot(); err != nil {
				return err
			}
			err := endProcesses(c.Context(), p)
			if err != nil && maru.KindOf(err) != maru.Unavailable {
				return err
			}
			switch {
			case purge:
				return purgeAll(c.Context(), p)
			case instances:
				return purgeInstances(c.Context(), p)
			case err != nil:
				return maru.WithHint(err, "Maru does not run with "+p.layout.Run)
			}
			return nil
		}, func(flags *pflag.FlagSet, _ *platform) {
			flags.BoolVar(&instances, "stop-instances", false, "also stop all instances; data stays")
			flags.BoolVar(&purge, "purge", false, "also stop all instances and remove all data of this installation")
		})
}

// endProcesses ends the platform's processes. Unavailable: none run.
func endProcesses(ctx context.Context, p *platform) error {
	if underSystemd(ctx, p) {
		return stopUnits(ctx)
	}
	return supervisor.Client{Socket: p.layout.SupervisorSocket()}.Shutdown(ctx)
}
