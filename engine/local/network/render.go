package network

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// part is what one service has in the table. It is a pure function of that service's traffic.
type part struct {
	elements []element
	policy   policy // of the virtual address
	reach    policy // of the instances' own addresses
	picks    []pick
	live     []netip.Addr // endpoints that may have flows: ready or draining; sorted
}

// policy says who may reach a service. Services with the same one share its chains.
type policy struct {
	networks string // NetworkID.String()s, joined by commas; sorted
	callers  string // ServiceID.String()s likewise; "" is all on the networks
}

// name is the end of the names of the policy's chains.
func (p policy) name() string { return shortHash(p.networks + ";" + p.callers) }

// The beginnings of the names of a policy's chains.
const (
	prefixAccept    = "in-"  // accepts those who may
	prefixLetPass   = "may-" // returns for those who may
	prefixOnNetwork = "net-" // with callers: returns for those who are on a network
)

func (p policy) accept() string    { return prefixAccept + p.name() }
func (p policy) letPass() string   { return prefixLetPass + p.name() }
func (p policy) onNetwork() string { return prefixOnNetwork + p.name() }

// groups are the address groups that the policy's chains ask for.
func (p policy) groups() []group {
	var out []group
	for n := range split(p.networks) {
		out = append(out, networkGroup(n))
	}
	for s := range split(p.callers) {
		out = append(out, serviceGroup(s))
	}
	return out
}

func split(list string) func(func(string) bool) {
	if list == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(list, ",")
}

// group is a set of addresses that chains ask for: who is on a network, or of a service.
type group string

func networkGroup(id string) group { return group("network " + id) }
func serviceGroup(id string) group { return group("service " + id) }

func (g group) set(f family) string { return setGroup + f.suffix() + "-" + shortHash(string(g)) }

// pick is a random choice between the first slots of a family.
type pick struct {
	family family
	slots  int
}

// chain is where a virtual address with that many slots leads.
func (p pick) chain() string {
	if p.slots == 1 {
		return slotName(p.family, 0)
	}
	return "pick" + p.family.suffix() + "-" + maru.Itoa(p.slots)
}

// slotName names both the map of a slot and the chain that uses it.
func slotName(f family, i int) string { return setSlot + f.suffix() + "-" + maru.Itoa(i) }

// shortHash makes a name of anything, short enough for the kernel and as good as unique.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// render gives a service's part of the table.
func (n *Network) render(s maru.ServiceTraffic) *part {
	p := &part{policy: policyOf(s, s.Allow), reach: policyOf(s, unlimited(s))}
	for _, f := range families {
		n.renderVirtual(p, s, f)
		for _, e := range s.Endpoints {
			addr := byFamily(e.Addresses, f)
			if !addr.IsValid() {
				continue
			}
			p.add(setReach+f.suffix(), bytesOf(addr), p.reach.accept())
			if e.Ready || e.Draining {
				p.live = append(p.live, addr)
			}
		}
	}
	slices.SortFunc(p.live, netip.Addr.Compare)
	return p
}

func (n *Network) renderVirtual(p *part, s maru.ServiceTraffic, f family) {
	virtual := byFamily(s.VirtualAddress, f)
	if !virtual.IsValid() {
		return
	}
	key := bytesOf(virtual)
	p.add(setCallers+f.suffix(), key, p.policy.letPass())
	if !n.cfg.NoMesh {
		for _, port := range s.Ports {
			if meshed(port) {
				p.add(setMesh+f.suffix(), key+string(binary.BigEndian.AppendUint16(nil, port.Port))+"\x00\x00", "")
			}
		}
	}
	slots := balance(s, f)
	if len(slots) == 0 {
		return
	}
	choice := pick{f, len(slots)}
	p.picks = append(p.picks, choice)
	p.add(setVirtual+f.suffix(), key, choice.chain())
	for i, addr := range slots {
		p.add(slotName(f, i), key, bytesOf(addr))
	}
}

// meshed tells whether the proxy serves the port.
func meshed(p maru.Port) bool {
	return p.Protocol != maru.UDP && (p.App == "http" || p.App == "h2c" || p.App == "grpc")
}

// unlimited are the callers that may ask anything. The others may only what the proxy lets through, and have no
// other way to the instances than it.
func unlimited(s maru.ServiceTraffic) []string {
	return slices.DeleteFunc(slices.Clone(s.Allow), func(name string) bool { return len(s.AllowCalls[name]) > 0 })
}

// policyOf gives who may reach the service, when it names those callers. Its own instances always may.
func policyOf(s maru.ServiceTraffic, named []string) policy {
	p := policy{networks: strings.Join(slices.Sorted(maps.Keys(s.Networks)), ",")}
	if len(s.Allow) == 0 {
		return p
	}
	callers := []string{s.Service.String()}
	for _, name := range named {
		if name != "gateway" {
			callers = append(callers, s.Service.Scope.Service(name).String())
		}
	}
	slices.Sort(callers)
	p.callers = strings.Join(slices.Compact(callers), ",")
	return p
}

func (p *part) add(set, key, value string) {
	p.elements = append(p.elements, element{elementKey{set, key}, value})
}

func byFamily(a maru.Addresses, f family) netip.Addr {
	if f == four {
		return a.V4
	}
	return a.V6
}

func bytesOf(a netip.Addr) string { return string(a.AsSlice()) }
