package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/layout"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/internal/supervisor"
)

// successionTimeout is how long a successor of the proxy may take to become ready.
const successionTimeout = 30 * time.Second

// units are the platform's services under systemd, in the order of an upgrade.
var units = []string{"runtime", "server", "proxy", "builder"}

func unitOf(process string) string { return "maru-" + process + ".service" }

// underSystemd tells whether systemd's units run this installation. They run the default one only.
func underSystemd(ctx context.Context, p *platform) bool {
	if p.layout.Run != (layout.Layout{}).Default().Run {
		return false
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	return exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", "maru.target").Run() == nil
}

func systemctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", args...).Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return "", maru.WithHint(maru.Errorf(maru.Internal, "systemctl %s: %s", strings.Join(args, " "), strings.TrimSpace(string(failed.Stderr))),
			"'journalctl --unit \"maru-*\"' shows what Maru's processes say")
	}
	if err != nil {
		return "", maru.Errorf(maru.Internal, "systemctl %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// properties asks systemd for properties of a unit.
func properties(ctx context.Context, unit string, names ...string) (map[string]string, error) {
	out, err := systemctl(ctx, "show", "--property="+strings.Join(names, ","), unit)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return values, nil
}

// unitStatus tells how the processes are that systemd runs.
func unitStatus(ctx context.Context) ([]supervisor.Process, error) {
	var all []supervisor.Process
	for _, name := range units {
		values, err := properties(ctx, unitOf(name), "ActiveState", "MainPID", "NRestarts", "ExecMainStartTimestampMonotonic", "StatusText")
		if err != nil {
			return nil, err
		}
		one := supervisor.Process{Name: name, Ready: values["ActiveState"] == "active" || values["ActiveState"] == "reloading"}
		one.Version = sockets.VersionOf(values["StatusText"])
		// What is left empty is not known, as of a unit that never ran.
		one.PID, _ = strconv.Atoi(values["MainPID"])
		one.Restarts, _ = strconv.Atoi(values["NRestarts"])
		if micros, err := strconv.ParseInt(values["ExecMainStartTimestampMonotonic"], 10, 64); err == nil && micros > 0 {
			one.Since = time.Now().Add(time.Duration(micros)*time.Microsecond - sinceBoot())
		}
		all = append(all, one)
	}
	return all, nil
}

// sinceBoot gives the clock that systemd's monotonic timestamps are of.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// reloadUnit replaces one process that systemd runs: the proxy by a successor that takes over before
// the old one ends, the others while their sockets wait.
func reloadUnit(ctx context.Context, process string) error {
	if process != "proxy" {
		_, err := systemctl(ctx, "try-restart", unitOf(process))
		return err
	}
	before, err := properties(ctx, unitOf(process), "MainPID", "ActiveState")
	if err != nil {
		return err
	}
	if before["ActiveState"] != "active" {
		_, err := systemctl(ctx, "restart", unitOf(process))
		return err
	}
	if _, err := systemctl(ctx, "reload", unitOf(process)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, successionTimeout, errors.New("no successor became ready; the old process goes on"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := properties(ctx, unitOf(process), "MainPID", "ActiveState")
		if err == nil && now["MainPID"] != before["MainPID"] && now["ActiveState"] == "active" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return maru.WithHint(maru.Errorf(maru.Unavailable, "reload %s: %w", process, context.Cause(ctx)),
				fmt.Sprintf("'journalctl --unit %s' says why", unitOf(process)))
		}
	}
}

// stopUnits ends all that systemd runs of the platform, the sockets too.
func stopUnits(ctx context.Context) error {
	if _, err := systemctl(ctx, "stop", "maru.target", "maru-*.service", "maru-*.socket"); err != nil {
		return err
	}
	// Predecessors of the proxy may be draining still. Where there are none this fails.
	_, _ = systemctl(ctx, "kill", "--signal=SIGKILL", unitOf("proxy"))
	return nil
}
