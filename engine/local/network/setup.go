package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Setup prepares the machine: forwarding, the host's address, routes that end what is meant for
// nobody, and the nftables table. It is idempotent and leaves what it finds of an earlier process in
// force. Conflict when the ranges are used by something else on this machine.
func (n *Network) Setup(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		host, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
		if err != nil {
			return maru.Errorf(maru.Internal, "netlink: %w", err)
		}
		n.host = host
	}
	for _, dir := range []string{n.netnsDir(), n.recordDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return maru.Errorf(maru.Internal, "%w", err)
		}
	}
	chains, err := n.chains()
	if err != nil {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "nftables: %w", err), "load the kernel module nf_tables, or use a kernel that has it")
	}
	saved, found, err := n.readMachine()
	if err != nil {
		return maru.Errorf(maru.Internal, "%w", err)
	}
	if !found && len(chains) == 0 {
		if err := n.checkFree(); err != nil {
			return err
		}
	}
	if err := n.load(); err != nil {
		return maru.Errorf(maru.Internal, "%w", err)
	}
	for _, step := range []func() error{
		func() error { return n.applySettings(saved) },
		n.setupRoutes,
		func() error { return n.setupTable(chains) },
		func() error { return n.befriend(ctx) },
	} {
		if err := step(); err != nil {
			return maru.Errorf(maru.Internal, "set up the network: %w", err)
		}
	}
	return nil
}

// load reads what an earlier process attached.
func (n *Network) load() error {
	records, err := n.readRecords()
	if err != nil {
		return err
	}
	for _, a := range records {
		n.attached[a.ID] = a
		n.addrs.reserve(a.Addresses)
		for _, g := range a.groups() {
			if n.groups[g] == nil {
				n.groups[g] = map[string]bool{}
			}
			n.groups[g][a.ID] = true
		}
	}
	return nil
}

// applySettings changes sysctls, after noting down how to put them back.
func (n *Network) applySettings(saved machine) error {
	settings, err := n.wantedSettings()
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, s := range saved.Settings {
		have[s.Name] = true
	}
	for _, s := range settings {
		if !have[s.Name] {
			saved.Settings = append(saved.Settings, s)
		}
	}
	if err := writeFile(n.machinePath(), saved); err != nil {
		return err
	}
	for _, s := range settings {
		if err := writeSysctl(s.Name, s.After); err != nil {
			return err
		}
	}
	return nil
}

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
	if n.mtu = n.cfg.MTU; n.mtu == 0 {
		n.mtu, err = n.defaultMTU()
	}
	return err
}

func (n *Network) endRoute(p netip.Prefix) *netlink.Route {
	r := &netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE, Protocol: routeProtocol}
	if p.Addr().Is6() {
		r.Priority = 4096
	}
	return r
}

// defaultMTU is that of the way out, so that nothing has to be fragmented there.
func (n *Network) defaultMTU() (int, error) {
	mtu := 1500
	routes, err := n.host.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, err
	}
	for _, r := range routes {
		if r.LinkIndex == 0 || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.host.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU >= 1280 {
			mtu = min(mtu, link.Attrs().MTU)
		}
	}
	return mtu, nil
}

// setupTable goes on with a table that an earlier process left, or makes one.
func (n *Network) setupTable(chains map[string]bool) error {
	if n.synced {
		return nil
	}
	if !chains[n.marker()] {
		return n.rebuild()
	}
	err := n.adopt(chains)
	if err != nil {
		n.log.Warn("an earlier process's nftables table can't be used; writing it anew", "error", err)
		n.state = newTableState()
		return n.rebuild()
	}
	return nil
}

// chains gives the names of the table's chains; none when there is no table.
func (n *Network) chains() (map[string]bool, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	all, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, c := range all {
		if c.Table.Name == n.cfg.Name && c.Table.Family == tableFamily {
			names[c.Name] = true
		}
	}
	return names, nil
}

// checkFree refuses ranges that the machine already has an address in or a route for.
func (n *Network) checkFree() error {
	refuse := func(p netip.Prefix, what string) error {
		return maru.WithHint(maru.Errorf(maru.Conflict, "the range %v is in use on this machine: %s", p, what),
			"give maru other ranges that nothing on this machine or behind it uses")
	}
	addrs, err := n.host.AddrList(nil, netlink.FAMILY_ALL)
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
	routes, err := n.host.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
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
