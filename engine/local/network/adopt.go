package network

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// adopt takes over a table that an earlier process left, as it is. What it holds for services belongs
// to nobody until the first full update; what it holds for instances is brought in line with them.
func (n *Network) adopt(chains map[string]bool) error {
	own, err := n.readTable(chains)
	if err != nil {
		return err
	}
	return n.alignInstances(own)
}

// readTable reads the table into the state, but for the elements of instances, which it gives.
func (n *Network) readTable(chains map[string]bool) (map[elementKey]bool, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	table := &nftables.Table{Name: n.cfg.Name, Family: tableFamily}
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	for name := range chains {
		if strings.Contains(name, "-") {
			n.state.made.chains[name] = true
		}
	}
	own := map[elementKey]bool{}
	for _, s := range sets {
		if s.Anonymous {
			continue
		}
		if strings.Contains(s.Name, "-") {
			n.state.made.sets[s.Name] = true
		}
		s.Table = table
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("list set %s: %w", s.Name, err)
		}
		for _, e := range elements {
			if err := n.readElement(s.Name, e, own); err != nil {
				return nil, err
			}
		}
	}
	return own, nil
}

func (n *Network) readElement(set string, e nftables.SetElement, own map[elementKey]bool) error {
	key := elementKey{set, string(e.Key)}
	switch setKind(set) {
	case setLinks, setSelf, setIsolated, setGroup:
		own[key] = true
		return nil
	}
	value, err := elementValue(set, e)
	n.state.elements[key] = owned{value: value}
	return err
}

// alignInstances makes the elements of instances, of which those in have are there, what the
// attachments say.
func (n *Network) alignInstances(have map[elementKey]bool) error {
	b, err := n.newBatch()
	if err != nil {
		return err
	}
	var missing, stale []element
	for _, a := range n.attached {
		for _, e := range slices.Concat(a.elements(), n.joined(a)) {
			if !have[e.elementKey] {
				missing = append(missing, e)
			}
			delete(have, e.elementKey)
		}
	}
	for k := range have {
		stale = append(stale, element{elementKey: k})
	}
	b.removeElements(stale)
	b.addElements(missing)
	return b.commit()
}

// elementValue reads the value of a map's element: an address, or the chain that it leads to.
func elementValue(set string, e nftables.SetElement) (string, error) {
	switch setKind(set) {
	case setCallers, setReach, setVirtual:
		attrs, err := netlink.NewAttributeDecoder(e.Val)
		if err != nil {
			return "", fmt.Errorf("verdict in %s: %w", set, err)
		}
		attrs.ByteOrder = binary.BigEndian
		chain := ""
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_VERDICT_CHAIN {
				chain = attrs.String()
			}
		}
		return chain, attrs.Err()
	}
	return string(e.Val), nil
}
