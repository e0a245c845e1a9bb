package network

import (
	"maps"
	"slices"

	"github.com/marucloud/maru"
)

// Update puts a step of traffic in force, as a whole or not at all. Its cost follows what it changes.
// What the kernel does from an earlier process is kept until the first Full update of this one, which
// has to come first: Conflict.
func (n *Network) Update(update maru.TrafficUpdate) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.synced && !update.Full {
		return maru.Errorf(maru.Conflict, "the first traffic update is not a full one")
	}
	c := n.state.begin()
	n.apply(c, update)
	if err := n.commit(c); err != nil {
		c.undo()
		return maru.Errorf(maru.Unavailable, "nftables: traffic update %d: %w", update.Version, err)
	}
	n.synced = true
	for id, before := range c.parts {
		n.forgetFlows(before, n.state.parts[id])
	}
	if len(n.pending.udp) > 0 {
		n.poke()
	}
	return nil
}

// apply makes the update a change.
func (n *Network) apply(c *change, update maru.TrafficUpdate) {
	if update.Full {
		named := map[maru.ServiceID]bool{}
		for _, s := range update.Services {
			named[s.Service] = true
		}
		for id := range n.state.parts {
			if !named[id] {
				c.set(id, nil)
			}
		}
	}
	for _, id := range update.Removed {
		c.set(id, nil)
	}
	for _, s := range update.Services {
		c.set(s.Service, n.render(s))
	}
	if update.Full {
		c.disown()
	}
}

// commit writes a change. When the kernel refuses it, what is there is not what we think: someone
// changed it, and all of it is written anew.
func (n *Network) commit(c *change) error {
	err := n.tryCommit(c)
	if err == nil {
		return nil
	}
	n.log.Warn("nftables refused a change; writing the whole table", "error", err)
	return n.rebuild()
}

// tryCommit makes what the change needs in one step, and only then leads traffic there in another.
func (n *Network) tryCommit(c *change) error {
	var parts []*part
	for id := range c.parts {
		if p := n.state.parts[id]; p != nil {
			parts = append(parts, p)
		}
	}
	first, err := n.newBatch()
	if err != nil {
		return err
	}
	needed := n.state.prepare(first, parts, n.members)
	if err := first.commit(); err != nil {
		return err
	}
	n.state.made.add(needed)
	second, err := n.newBatch()
	if err != nil {
		return err
	}
	remove, add := c.difference()
	second.removeElements(remove)
	second.addElements(add)
	return second.commit()
}

// rebuild replaces the whole table in one step.
func (n *Network) rebuild() error {
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	n.buildBase(b)
	before := n.state.made
	n.state.made = newMade()
	needed := n.state.prepare(b, slices.Collect(maps.Values(n.state.parts)), n.members)
	var all []element
	for _, a := range n.attached {
		all = append(all, a.elements()...)
	}
	for k, o := range n.state.elements {
		if o.owner != (maru.ServiceID{}) { // what it leads to is not known
			all = append(all, element{k, o.value})
		}
	}
	b.addElements(all)
	if err := b.commit(); err != nil {
		n.state.made = before
		return err
	}
	n.state.made = needed
	maps.DeleteFunc(n.state.elements, func(_ elementKey, o owned) bool { return o.owner == (maru.ServiceID{}) })
	return nil
}

// prune drops what no service needs any more.
func (n *Network) prune() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.synced {
		return nil
	}
	chains, sets := n.state.unneeded()
	if len(chains)+len(sets) == 0 {
		return nil
	}
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	for _, name := range chains {
		b.dropChain(name)
		delete(n.state.made.chains, name)
	}
	for _, name := range sets {
		b.dropSet(name)
		delete(n.state.made.sets, name)
	}
	if err := b.commit(); err != nil {
		return n.rebuild()
	}
	return nil
}

// members gives the group's elements, of the instances that are attached.
func (n *Network) members(g group) []element {
	var out []element
	for id := range n.groups[g] {
		for _, f := range families {
			if addr := byFamily(n.attached[id].Addresses, f); addr.IsValid() {
				out = append(out, element{elementKey{g.set(f), bytesOf(addr)}, ""})
			}
		}
	}
	return out
}

// elements are what an attached instance has in the table, apart from its groups.
func (a attachment) elements() []element {
	var out []element
	for _, f := range families {
		addr := byFamily(a.Addresses, f)
		if !addr.IsValid() {
			continue
		}
		link := make([]byte, 16)
		copy(link, a.Link)
		key := bytesOf(addr)
		out = append(out, element{elementKey{setLinks + f.suffix(), string(link) + key}, ""}, element{elementKey{setSelf + f.suffix(), key + key}, ""})
		if a.Isolated {
			out = append(out, element{elementKey{setIsolated + f.suffix(), key}, ""})
		}
	}
	return out
}

// joined are the elements of an attached instance in the groups that the table has.
func (n *Network) joined(a attachment) []element {
	var out []element
	for _, g := range a.groups() {
		for _, f := range families {
			addr, set := byFamily(a.Addresses, f), g.set(f)
			if addr.IsValid() && n.state.made.sets[set] {
				out = append(out, element{elementKey{set, bytesOf(addr)}, ""})
			}
		}
	}
	return out
}

// groups are those that the instance is a member of.
func (s Spec) groups() []group {
	out := []group{serviceGroup(s.Service.String())}
	for _, id := range s.Networks {
		out = append(out, networkGroup(id.String()))
	}
	return out
}
