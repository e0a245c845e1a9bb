package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"reflect"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/crash"
)

// Attach makes the instance's network namespace, with the user namespace that owns it if the Spec has
// users, and connects it, and gives the path of the network namespace.
// It is idempotent: with the same Spec it leaves what is there as it is. Within the namespace the
// link is eth0; the gateway and the name server are at Host().
func (n *Network) Attach(ctx context.Context, id string, spec Spec) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	link, err := n.linkName(spec.Addresses)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", maru.Errorf(maru.Interrupted, "attach %s: %w", id, err)
	}
	defer n.ids.lock(id)()

	a := attachment{ID: id, Link: link, Spec: spec}
	before, known, err := n.claim(a)
	if err != nil {
		return "", err
	}
	if known {
		if reflect.DeepEqual(before, a) && n.intact(a) {
			return n.netnsPath(id), nil
		}
		if err := n.detach(before); err != nil {
			return "", err
		}
		if _, _, err := n.claim(a); err != nil {
			return "", err
		}
	}
	if err := n.attach(a); err != nil {
		return "", errors.Join(maru.Errorf(maru.Internal, "attach %s: %w", id, err), n.detach(a))
	}
	return n.netnsPath(id), nil
}

// claim takes the addresses for the instance, unless it has some: then it gives what it has.
func (n *Network) claim(a attachment) (before attachment, known bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.host == nil {
		return attachment{}, false, maru.Errorf(maru.Unavailable, "attach %s: the network is not set up", a.ID)
	}
	if before, known = n.attached[a.ID]; known {
		return before, true, nil
	}
	for _, other := range n.attached {
		if other.Link == a.Link {
			return attachment{}, false, maru.Errorf(maru.Conflict, "attach %s: %s has the address %v", a.ID, other.ID, a.Addresses.V4)
		}
	}
	n.addrs.reserve(a.Addresses)
	n.attached[a.ID] = a
	for _, g := range a.groups() {
		if n.groups[g] == nil {
			n.groups[g] = map[string]bool{}
		}
		n.groups[g][a.ID] = true
	}
	return attachment{}, false, nil
}

// attach makes everything for an instance that was claimed. The record comes first, so that a crash
// leaves nothing that nobody knows.
func (n *Network) attach(a attachment) error {
	if err := writeFile(n.recordPath(a.ID), a); err != nil {
		return err
	}
	crash.Point("network.record.after")
	inside, ns, err := n.makeNamespaces(a)
	if err != nil {
		return err
	}
	defer inside.Close()
	defer ns.Close()
	crash.Point("network.namespace.after")
	if err := n.connect(a, inside, ns); err != nil {
		return err
	}
	crash.Point("network.connect.after")
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.enter(append(a.elements(), n.joined(a)...))
}

func (n *Network) makeNamespaces(a attachment) (*netlink.Handle, *os.File, error) {
	if a.Users == 0 {
		return makeNetns(n.netnsPath(a.ID))
	}
	return makeOwnedNetns(n.netnsPath(a.ID), n.UserNamespace(a.ID), a.Users)
}

// enter adds an instance's elements. When the kernel refuses, what is there is not what we think, and
// all of it is written anew.
func (n *Network) enter(elements []element) error {
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	b.addElements(elements)
	if err = b.commit(); err == nil {
		return nil
	}
	n.log.Warn("nftables refused an instance; writing the whole table", "error", err)
	return n.rebuild()
}

// forget removes an instance's elements.
func (n *Network) forget(elements []element) error {
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	b.addElements(elements) // those that an attach did not come to add, so that all can be removed
	b.removeElements(elements)
	if err = b.commit(); err == nil {
		return nil
	}
	n.log.Warn("nftables refused to forget an instance; writing the whole table", "error", err)
	return n.rebuild()
}

// intact tells whether what was attached is still there, and whole: the host's end comes up when the
// inside is done, so that an attach that was cut short is seen. What comes after that is made again.
func (n *Network) intact(a attachment) bool {
	if !isNamespace(n.netnsPath(a.ID)) || a.Users != 0 && !isNamespace(n.UserNamespace(a.ID)) {
		return false
	}
	link, err := n.host.LinkByName(a.Link)
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	return n.connectHost(a) == nil
}

// Detach cuts the instance off and gives its addresses back, to be reused after a while. The rest is
// removed later, by Run. Detaching what is not attached is no error.
func (n *Network) Detach(_ context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	defer n.ids.lock(id)()
	n.mu.Lock()
	a, ok := n.attached[id]
	n.mu.Unlock()
	if !ok {
		return nil
	}
	if err := n.detach(a); err != nil {
		return maru.Errorf(maru.Internal, "detach %s: %w", id, err)
	}
	return nil
}

// detach does what stops traffic, and leaves to Run what only takes time.
func (n *Network) detach(a attachment) error {
	var errs []error
	index := 0
	if link, err := n.host.LinkByName(a.Link); err == nil {
		index = link.Attrs().Index
		for _, addr := range n.addresses(a) {
			err := n.host.RouteDel(&netlink.Route{LinkIndex: index, Dst: hostNet(addr)})
			if err != nil && !isGone(err) {
				errs = append(errs, fmt.Errorf("route to %v: %w", addr, err))
			}
		}
	} else if !isGone(err) {
		errs = append(errs, err)
	}
	errs = append(errs, dropNamespace(n.netnsPath(a.ID)), dropNamespace(n.UserNamespace(a.ID)))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	crash.Point("network.disconnect.after")

	n.mu.Lock()
	gone := append(a.elements(), n.joined(a)...)
	delete(n.attached, a.ID)
	for _, g := range a.groups() {
		if delete(n.groups[g], a.ID); len(n.groups[g]) == 0 {
			delete(n.groups, g)
		}
	}
	err := n.forget(gone)
	n.pending.add(leftovers{links: linkIndex(index), addresses: []maru.Addresses{a.Addresses}})
	n.mu.Unlock()
	n.poke()
	if err != nil {
		return err
	}
	if err := os.Remove(n.recordPath(a.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func linkIndex(index int) []int {
	if index == 0 {
		return nil
	}
	return []int{index}
}
