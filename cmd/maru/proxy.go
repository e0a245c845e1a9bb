package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/traffic"
	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/socket"
)

func proxyCommand() *cobra.Command {
	return hidden(command("proxy", "Run the data plane (started by 'maru start')", "", func(c *cobra.Command, p *platform) error {
		return runProxy(c.Context(), p)
	}))
}

func runProxy(ctx context.Context, p *platform) error {
	ranges, err := p.ranges()
	if err != nil {
		return err
	}
	parent, err := sockets.FromParent()
	if err != nil {
		return err
	}
	state := p.layout.ProxyData()
	if folder := parent.Files["folder"]; folder != nil {
		// Its parents may be closed to this user: it is reached through the descriptor.
		state = fmt.Sprintf("/proc/self/fd/%d", folder.Fd())
		delete(parent.Files, "folder")
		defer folder.Close()
	}
	held, err := holderOf(ctx, p, parent)
	if err != nil {
		return err
	}
	if p.http3 == "off" {
		// systemd opens it all the same.
		for name, file := range parent.Files {
			if socket.Kind(name) == socket.QUIC {
				delete(parent.Files, name)
				file.Close()
			}
		}
	}
	listeners, packets, err := proxyListeners(parent.Files)
	if err != nil {
		return err
	}
	format, err := p.accessLogFormat()
	if err != nil {
		return err
	}
	access, err := accesslog.OpenFile(filepath.Join(state, "access.log"), accesslog.FileConfig{})
	if err != nil {
		return err
	}
	defer access.Close()
	trusted, err := prefixes("trusted-proxy", p.trusted)
	if err != nil {
		return err
	}
	proxied, err := prefixes("proxy-protocol", p.proxied)
	if err != nil {
		return err
	}
	log := p.logger("proxy")
	proxy, err := traffic.New(traffic.Config{
		Ranges: ranges, Server: p.layout.TrafficSocket(), State: state,
		Listeners: listeners, Packets: packets,
		Listen: held.listen, Release: held.release, Keep: held.keep, Kept: held.kept,
		AccessLog: access, LogFormat: format, TrustedProxies: trusted, ProxyProtocol: proxied, Ready: func() error { return held.ready(version) },
	}, log)
	if err != nil {
		return err
	}
	stop := held.watch(log)
	defer stop()
	return proxy.Run(ctx)
}

// proxyListeners gives the sockets that the supervisor, or systemd, opened for this process.
func proxyListeners(files map[string]*os.File) (map[string]net.Listener, map[string]net.PacketConn, error) {
	if len(files) == 0 {
		return nil, nil, maru.WithHint(maru.Errorf(maru.Invalid, "the proxy was given no sockets"), "it is started by 'maru start', or by systemd")
	}
	listeners, packets := map[string]net.Listener{}, map[string]net.PacketConn{}
	var err error
	for name, file := range files {
		if kind := socket.Kind(name); kind == socket.DNSUDP || kind == socket.QUIC {
			packets[name], err = sockets.PacketConn(file)
		} else {
			listeners[name], err = sockets.Listener(file)
		}
		if err != nil {
			return nil, nil, maru.Errorf(maru.Invalid, "socket %s: %w", name, err)
		}
	}
	return listeners, packets, nil
}

// hidden keeps a command that people don't type out of the help.
func hidden(c *cobra.Command) *cobra.Command {
	c.Hidden = true
	return c
}

// ended makes the end that was asked for no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, io.EOF)) {
		return nil
	}
	return err
}
