package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/dump"
)

// Sweep removes what belongs to no instance of keep, also what a crash left half made.
func (n *Network) Sweep(ctx context.Context, keep []string) error {
	kept := map[string]bool{}
	for _, id := range keep {
		kept[id] = true
	}
	n.mu.Lock()
	if n.host == nil {
		n.mu.Unlock()
		return maru.Errorf(maru.Unavailable, "sweep: the network is not set up")
	}
	var gone []string
	for id := range n.attached {
		if !kept[id] {
			gone = append(gone, id)
		}
	}
	n.mu.Unlock()
	slices.Sort(gone)
	var errs []error
	for _, id := range gone {
		errs = append(errs, n.Detach(ctx, id))
	}
	errs = append(errs, n.clean(), n.sweepFiles(), n.sweepLinks())
	if err := errors.Join(errs...); err != nil {
		return maru.Errorf(maru.Internal, "sweep the network: %w", err)
	}
	return nil
}

// sweepFiles removes namespaces and records of nobody.
func (n *Network) sweepFiles() error {
	var errs []error
	for _, dir := range []string{n.netnsDir(), n.usernsDir(), n.recordDir()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			id := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".new"), recordSuffix)
			if e.Name() == ".machine" || dir != n.recordDir() && e.Name() != id {
				continue
			}
			errs = append(errs, n.sweepFile(dir+"/"+e.Name(), id))
		}
	}
	return errors.Join(errs...)
}

func (n *Network) sweepFile(path, id string) error {
	if checkID(id) == nil {
		defer n.ids.lock(id)()
	}
	n.mu.Lock()
	_, known := n.attached[id]
	n.mu.Unlock()
	if known {
		return nil
	}
	return dropNamespace(path)
}

// sweepLinks removes interfaces of nobody.
func (n *Network) sweepLinks() error {
	links, err := dump.Whole(n.host.LinkList)
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	for _, link := range links {
		attrs := link.Attrs()
		if !n.isLink(attrs.Name) {
			continue
		}
		n.mu.Lock()
		known := slices.ContainsFunc(attachments(n.attached), func(a attachment) bool { return a.Link == attrs.Name })
		n.mu.Unlock()
		if !known {
			errs = append(errs, n.removeLinkIndex(attrs.Index))
		}
	}
	return errors.Join(errs...)
}

func attachments(m map[string]attachment) []attachment {
	out := make([]attachment, 0, len(m))
	for _, a := range m {
		out = append(out, a)
	}
	return out
}

// Teardown removes everything, so that the machine is as before the first Setup.
func (n *Network) Teardown(ctx context.Context) error {
	if err := n.Setup(ctx); err != nil { // it knows what is there, also of an earlier process
		return err
	}
	errs := []error{n.Sweep(ctx, nil)}
	n.mu.Lock()
	defer n.mu.Unlock()
	errs = append(errs, n.part(ctx), n.removeTable(), n.removeRoutes(), n.restoreSettings())
	if err := errors.Join(errs...); err != nil {
		return maru.Errorf(maru.Internal, "tear down the network: %w", err)
	}
	n.state, n.synced = newTableState(), false
	n.closeNFT()
	n.host.Close()
	n.host = nil
	for _, dir := range []string{n.netnsDir(), n.usernsDir(), n.recordDir()} {
		if err := os.RemoveAll(dir); err != nil {
			return maru.Errorf(maru.Internal, "tear down the network: %w", err)
		}
	}
	return nil
}

func (n *Network) removeTable() error {
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	b.conn.AddTable(b.table)
	b.conn.DelTable(b.table)
	return b.commit()
}

func (n *Network) removeRoutes() error {
	lo, err := n.host.LinkByName("lo")
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range n.ranges() {
		if err := n.host.RouteDel(n.endRoute(p)); err != nil && !isGone(err) {
			errs = append(errs, fmt.Errorf("route for %v: %w", p, err))
		}
	}
	for _, host := range n.hosts() {
		if err := n.host.AddrDel(lo, addrOf(host)); err != nil && !isGone(err) && !isAbsent(err) {
			errs = append(errs, fmt.Errorf("address %v: %w", host, err))
		}
	}
	return errors.Join(errs...)
}

// restoreSettings puts sysctls back, the last changed first, unless somebody else changed them since
// or needs them by now.
func (n *Network) restoreSettings() error {
	saved, _, err := n.readMachine()
	if err != nil {
		return err
	}
	others, err := othersForward(n.cfg.Name)
	if err != nil {
		return err
	}
	if others {
		n.log.Info("forwarding stays on: other programs have rules for it")
		return nil
	}
	var errs []error
	for _, s := range slices.Backward(saved.Settings) {
		now, err := readSysctl(s.Name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && now != s.After {
			continue
		}
		if err == nil {
			err = writeSysctl(s.Name, s.Before)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
