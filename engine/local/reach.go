package local

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"

	"github.com/marucloud/maru"
)

// Forward implements [maru.Forwarder].
func (e *Engine) Forward(ctx context.Context, instance string, port uint16) (net.Conn, error) {
	a, err := e.find(ctx, instance)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(probeAddress(a), port).String())
	if err != nil {
		return nil, maru.WithHint(maru.Errorf(maru.Unavailable, "connect to port %d of %s: %w", port, instance, err),
			"is something listening there, on all addresses and not on localhost alone?")
	}
	return conn, nil
}

// Usage implements [maru.Meter].
func (e *Engine) Usage(ctx context.Context) ([]maru.Usage, error) {
	if err := e.await(ctx); err != nil {
		return nil, err
	}
	var all []maru.Usage
	for _, a := range e.attempts() {
		used, err := e.cgroups.Usage(a.cgroup)
		if maru.KindOf(err) == maru.NotFound {
			continue // it ended just now
		}
		if err != nil {
			return nil, fmt.Errorf("usage of %s: %w", a.instance, err)
		}
		all = append(all, maru.Usage{
			Instance: a.instance, CPU: used.CPU, Memory: used.Memory, MemoryLimit: used.MemoryLimit,
			PIDs: used.PIDs, ReadBytes: used.ReadBytes, WriteBytes: used.WriteBytes,
		})
	}
	return all, nil
}

// Logs implements [maru.Logs].
func (e *Engine) Logs(ctx context.Context, q maru.LogQuery) iter.Seq2[maru.LogEntry, error] {
	return e.logs.Logs(ctx, q)
}
