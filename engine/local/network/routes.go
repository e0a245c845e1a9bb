package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/dump"
)

// setupRoutes gives the host its address and ends the ranges under what lives in them. The routes
// are of the unreachable kind: what has no instance never leaves the machine, and whoever asks for it
// is told at once.
func (n *Network) setupRoutes() error {
	lo, err := n.host.LinkByName("lo")
	if err != nil {
		return err
	}
	if lo.Attrs().Flags&1 == 0 {
		if err := n.host.LinkSetUp(lo); err != nil {
			return err
		}
	}
	for _, host := range n.hosts() {
		if err := n.host.AddrReplace(lo, &netlink.Addr{IPNet: hostNet(host), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %v: %w", host, err)
		}
	}
	for _, p := range n.ranges() {
		if err := n.host.RouteReplace(n.endRoute(p)); err != nil {
			return fmt.Errorf("route for %v: %w", p, err)
		}
	}
	return nil
}

func (n *Network) endRoute(p netip.Prefix) *netlink.Route {
	r := &netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE, Protocol: routeProtocol}
	if p.Addr().Is6() {
		r.Priority = 4096
	}
	return r
}

// setMTU takes that of the way out, so that nothing has to be fragmented there.
func (n *Network) setMTU() error {
	if n.mtu = n.cfg.MTU; n.mtu != 0 {
		return nil
	}
	n.mtu = 1500
	routes, err := dump.Whole(func() ([]netlink.Route, error) { return n.host.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.LinkIndex == 0 || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.host.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU >= 1280 {
			n.mtu = min(n.mtu, link.Attrs().MTU)
		}
	}
	return nil
}

// repairRoutes puts back what is missing of the host's address, of the routes that end the ranges and
// of those to instances: programs that manage interfaces remove what they don't know.
func (n *Network) repairRoutes() error {
	lo, err := n.host.LinkByName("lo")
	if err != nil {
		return err
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return n.host.AddrList(lo, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return n.host.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return err
	}
	have := map[netip.Prefix]bool{}
	for _, a := range addrs {
		have[prefixOf(a.IPNet.IP, a.IPNet.Mask)] = true
	}
	for _, r := range routes {
		if r.Dst != nil {
			have[prefixOf(r.Dst.IP, r.Dst.Mask)] = true
		}
	}
	base := true
	for _, p := range n.ranges() {
		base = base && have[p.Masked()]
	}
	for _, host := range n.hosts() {
		base = base && have[netip.PrefixFrom(host, host.BitLen())]
	}
	var errs []error
	if !base {
		n.log.Warn("another program removed routes; putting them back")
		errs = append(errs, n.setupRoutes())
	}
	for _, a := range n.attached {
		for _, addr := range n.addresses(a) {
			if have[netip.PrefixFrom(addr, addr.BitLen())] {
				continue
			}
			n.log.Warn("an instance's route is missing; putting it back", "instance", a.ID)
			if err := n.connectHost(a); err != nil && !isGone(err) { // it may be on its way in or out
				errs = append(errs, err)
			}
			break
		}
	}
	return errors.Join(errs...)
}

// checkFree refuses ranges that the machine already has an address in or a route for.
func (n *Network) checkFree() error {
	refuse := func(p netip.Prefix, what string) error {
		return maru.WithHint(maru.Errorf(maru.Conflict, "the range %v is in use on this machine: %s", p, what),
			"give maru other ranges that nothing on this machine or behind it uses")
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return n.host.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return maru.Errorf(maru.Internal, "list addresses: %w", err)
	}
	for _, a := range addrs {
		used := prefixOf(a.IPNet.IP, a.IPNet.Mask)
		for _, p := range n.ranges() {
			if p.Overlaps(used) {
				return refuse(p, fmt.Sprintf("address %v", used))
			}
		}
	}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return n.host.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return maru.Errorf(maru.Internal, "list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		used := prefixOf(r.Dst.IP, r.Dst.Mask)
		for _, p := range n.ranges() {
			if used.Bits() > 0 && p.Overlaps(used) {
				return refuse(p, fmt.Sprintf("route to %v", used))
			}
		}
	}
	return nil
}

func prefixOf(ip []byte, mask []byte) netip.Prefix {
	addr, _ := netip.AddrFromSlice(ip)
	ones := 0
	for _, b := range mask {
		for ; b&0x80 != 0; b <<= 1 {
			ones++
		}
	}
	return netip.PrefixFrom(addr.Unmap(), ones).Masked()
}
