package network

import (
	"context"
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
	for _, dir := range []string{n.netnsDir(), n.usernsDir(), n.recordDir()} {
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
		n.setMTU,
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
