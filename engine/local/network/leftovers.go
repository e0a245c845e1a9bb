package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// leftovers are what is out of use and remains to be removed.
type leftovers struct {
	links     []int            // indexes of interfaces on the host
	addresses []maru.Addresses // of instances that are gone
	udp       []netip.Addr     // of endpoints that are out of use
	tries     int              // to forget their connections, that failed
}

// enoughTries is after how many the addresses are given back all the same: a kernel that can't
// forget connections is no reason to run out of addresses.
const enoughTries = 3

func (l *leftovers) add(more leftovers) {
	l.links = append(l.links, more.links...)
	l.addresses = append(l.addresses, more.addresses...)
	l.udp = append(l.udp, more.udp...)
	l.tries = max(l.tries, more.tries)
}

func (l *leftovers) empty() bool { return len(l.links)+len(l.addresses)+len(l.udp) == 0 }

// gatherTime is how long to wait for more leftovers after the first: looking through the kernel's
// connections takes milliseconds, however few there are.
const gatherTime = 50 * time.Millisecond

// poke lets Run look for leftovers.
func (n *Network) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// clean removes the leftovers. What fails stays one.
func (n *Network) clean() error {
	n.mu.Lock()
	todo := n.pending
	n.pending = leftovers{}
	n.mu.Unlock()
	if todo.empty() {
		return nil
	}
	var errs []error
	var again leftovers
	for _, index := range todo.links {
		if err := n.removeLinkIndex(index); err != nil {
			errs = append(errs, fmt.Errorf("remove link %d: %w", index, err))
			again.links = append(again.links, index)
		}
	}
	forgotten := true
	if err := n.forgetConnections(todo); err != nil {
		errs = append(errs, fmt.Errorf("forget connections: %w", err))
		if forgotten = todo.tries >= enoughTries; !forgotten {
			again.addresses, again.udp, again.tries = todo.addresses, todo.udp, todo.tries+1
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending.add(again)
	if forgotten {
		for _, a := range todo.addresses {
			n.addrs.release(a, time.Now())
		}
	}
	return errors.Join(errs...)
}

// forgetConnections makes the kernel forget the connections of addresses that are gone, so that the
// next to have one inherits nothing, and the UDP flows to endpoints that are out of use, so that who
// goes on sending gets another.
func (n *Network) forgetConnections(todo leftovers) error {
	gone := flowFilter{gone: map[netip.Addr]bool{}, udp: map[netip.Addr]bool{}}
	for _, a := range todo.addresses {
		gone.gone[a.V4], gone.gone[a.V6] = true, true
	}
	for _, a := range todo.udp {
		gone.udp[a] = true
	}
	if len(gone.gone)+len(gone.udp) == 0 {
		return nil
	}
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if family == unix.AF_INET6 && !n.cfg.Ranges.InstancesV6.IsValid() {
			continue
		}
		_, err := n.host.ConntrackDeleteFilters(netlink.ConntrackTable, family, gone)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flowFilter matches connections to forget.
type flowFilter struct {
	gone map[netip.Addr]bool // any connection from or to it
	udp  map[netip.Addr]bool // UDP flows that it answers
}

func (f flowFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	answers, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	asks, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
	answers, asks = answers.Unmap(), asks.Unmap()
	return f.gone[answers] || f.gone[asks] || flow.Forward.Protocol == unix.IPPROTO_UDP && f.udp[answers]
}

// forgetFlows lets UDP flows that led to an endpoint choose anew once it is out of use.
func (n *Network) forgetFlows(before, after *part) {
	if before == nil {
		return
	}
	for _, addr := range before.live {
		still := false
		if after != nil {
			_, still = slices.BinarySearchFunc(after.live, addr, netip.Addr.Compare)
		}
		if !still {
			n.pending.udp = append(n.pending.udp, addr)
		}
	}
}

// Run does what need not be waited for (removing links, forgetting flows to what is gone) and keeps
// other programs' firewalls from dropping the instances' traffic, until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	firewalls, err := watchFirewalls(ctx)
	if err != nil {
		n.log.Warn("changes of other firewalls are noticed late", "error", err)
	} else {
		defer func() {
			for range firewalls {
			}
		}()
	}
	again := time.NewTicker(recheckInterval)
	defer again.Stop()
	for ctx.Err() == nil {
		if err := n.clean(); err != nil {
			n.log.Warn("network leftovers remain", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
			wait(ctx, gatherTime)
		case <-firewalls:
			n.recheck(ctx)
		case <-again.C:
			n.recheck(ctx)
			if err := n.prune(); err != nil {
				n.log.Warn("unused network rules remain", "error", err)
			}
		}
	}
	return nil
}
