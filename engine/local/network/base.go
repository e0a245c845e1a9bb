package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// tableVersion counts the changes of the table's chains and fixed sets.
const tableVersion = 1

// marker is the name of an empty chain that tells what the table was made from.
func (n *Network) marker() string {
	return fmt.Sprintf("version-%d-%s", tableVersion, shortHash(fmt.Sprint(n.cfg.Name, n.cfg.Ranges, n.cfg.NoMesh)))
}

// Chains with fixed names.
const (
	chainRefuse   = "refuse"   // for those who may not
	chainUnserved = "unserved" // for what nobody is there to answer
)

// never are addresses outside the machine that no instance may reach: link-local ones and those where
// clouds tell a machine its credentials.
var never = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("192.0.0.192/32"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("fd20:ce::254/128"),
}

// prefix begins the names of the instances' interfaces on the host.
func (n *Network) prefix() string { return n.cfg.Name + "-" }

// buildBase writes all of the table that does not depend on services and instances.
func (n *Network) buildBase(b *batch) {
	b.replaceTable()
	b.chain(n.marker())
	for _, f := range families {
		for _, name := range fixedSets {
			b.addSet(newSet(name+f.suffix()), nil)
		}
	}
	b.chain(chainRefuse, match().reset(), match().refuse(unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED))
	b.chain(chainUnserved, match().reset(), match().refuse(unix.NFT_REJECT_ICMPX_PORT_UNREACH))
	n.buildGuard(b)
	n.buildBalance(b)
	n.buildForward(b)
	n.buildHost(b)
	n.buildEgress(b)
}

const eq, ne = expr.CmpOpEq, expr.CmpOpNeq

// buildGuard makes addresses identities: an instance sends only from its own, and nobody else from
// or, from outside, to any of ours.
func (n *Network) buildGuard(b *batch) {
	spoof := []exprs{}
	for _, f := range families {
		key := match().ip(f).and(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}).saddr(f, reg2)
		spoof = append(spoof, key.in(setLinks+f.suffix()).accept())
	}
	b.chain("spoof", append(spoof, match().drop())...)

	rules := []exprs{match().iif(eq, n.prefix()).leave("spoof"), match().iif(eq, "lo\x00").accept()}
	for _, p := range n.ranges() {
		rules = append(rules, match().from(p).drop(), match().to(p).drop())
	}
	b.baseChain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw, rules...)
}

// ranges are the configured ones that are valid.
func (n *Network) ranges() []netip.Prefix {
	r := n.cfg.Ranges
	out := []netip.Prefix{r.InstancesV4, r.VirtualV4}
	if r.InstancesV6.IsValid() {
		out = append(out, r.InstancesV6, r.VirtualV6)
	}
	return out
}

func (n *Network) hosts() []netip.Addr {
	host := n.cfg.Ranges.Host()
	if n.cfg.Ranges.InstancesV6.IsValid() {
		return []netip.Addr{host.V4, host.V6}
	}
	return []netip.Addr{host.V4}
}

// buildBalance leads a new connection to a virtual address: to the proxy or to an instance. What is
// left with a virtual address afterwards has nobody to answer it.
func (n *Network) buildBalance(b *batch) {
	balance := []exprs{match().iif(ne, n.prefix()).accept()}
	for _, f := range families {
		balance = append(balance, match().ip(f).daddr(f, reg1).vmap(setCallers+f.suffix(), 0))
	}
	for _, host := range n.hosts() {
		f := familyOf(host)
		balance = append(balance, match().ip(f).l4proto(unix.IPPROTO_TCP).daddr(f, reg1).dport(f.after()).in(setMesh+f.suffix()).
			immediate(reg1, host.AsSlice()).immediate(reg2, binary.BigEndian.AppendUint16(nil, maru.MeshPort)).nat(expr.NATTypeDestNAT, f, true))
	}
	for _, f := range families {
		balance = append(balance, match().ip(f).daddr(f, reg1).vmap(setVirtual+f.suffix(), 0))
	}
	b.baseChain("balance", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest-5, balance...)

	left := []exprs{match().iif(ne, n.prefix()).accept()}
	for _, host := range n.hosts() {
		left = append(left, match().to(netip.PrefixFrom(host, host.BitLen())).accept())
	}
	for _, p := range n.ranges() {
		if p == n.cfg.Ranges.VirtualV4 || p == n.cfg.Ranges.VirtualV6 {
			left = append(left, match().to(p).leave(chainUnserved))
		}
	}
	b.baseChain("balanced", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest+5, left...)
}

// known accepts what belongs to a connection that was accepted, and drops what belongs to none.
func known() []exprs {
	return []exprs{
		match().ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED).accept(),
		match().ctBits(expr.CtKeySTATE, expr.CtStateBitINVALID).drop(),
	}
}

// buildForward is the policy between instances, and between them and the outside.
func (n *Network) buildForward(b *batch) {
	// Who came by a virtual address was let pass there, perhaps a moment before its endpoint went.
	between := []exprs{match().ctBits(expr.CtKeySTATUS, ipsDestNAT).accept()}
	for _, f := range families {
		between = append(between, match().ip(f).daddr(f, reg1).vmap(setReach+f.suffix(), 0))
	}
	b.chain("between", append(between, match().leave(chainRefuse))...)

	from := append(known(), match().oif(eq, n.prefix()).leave("between"))
	for _, f := range families {
		from = append(from, match().ip(f).saddr(f, reg1).in(setIsolated+f.suffix()).leave(chainRefuse))
	}
	for _, p := range never {
		from = append(from, match().to(p).leave(chainRefuse))
	}
	b.chain("from-instance", from...)
	b.chain("to-instance", append(known(), match().drop())...)
	b.baseChain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter,
		match().iif(eq, n.prefix()).leave("from-instance"), match().oif(eq, n.prefix()).leave("to-instance"))
}

// buildHost lets instances reach names and the mesh at the host, and nothing else of it.
func (n *Network) buildHost(b *batch) {
	rules := known()
	for _, host := range n.hosts() {
		to := match().to(netip.PrefixFrom(host, host.BitLen()))
		rules = append(rules,
			to.port(unix.IPPROTO_UDP, maru.DNSPort).accept(),
			to.port(unix.IPPROTO_TCP, maru.DNSPort).accept(),
			to.port(unix.IPPROTO_TCP, maru.MeshPort).ctBits(expr.CtKeySTATUS, ipsDestNAT).accept())
	}
	for kind := byte(133); kind <= 137; kind++ { // neighbours are permanent: nobody needs an answer
		rules = append(rules, match().ip(six).icmpType(unix.IPPROTO_ICMPV6, kind).drop())
	}
	b.chain("to-host", append(rules, match().leave(chainRefuse))...)
	b.baseChain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter,
		match().iif(eq, n.prefix()).leave("to-host"))
	// An instance that reaches itself by a virtual address is no reason to tell it of a shorter way.
	b.baseChain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, *nftables.ChainPriorityFilter,
		match().oif(eq, n.prefix()).ip(four).icmpType(unix.IPPROTO_ICMP, 5).drop(),
		match().oif(eq, n.prefix()).ip(six).icmpType(unix.IPPROTO_ICMPV6, 137).drop())
}

const ipsDestNAT = 1 << 5 // IPS_DST_NAT of the kernel's nf_conntrack_common.h

// buildEgress hides instances behind the machine's address outside, and an instance behind the host's
// when it reached itself: it would take its own address for a forgery.
func (n *Network) buildEgress(b *batch) {
	var rules []exprs
	for _, host := range n.hosts() {
		f := familyOf(host)
		rules = append(rules, match().ip(f).saddr(f, reg1).daddr(f, f.after()).in(setSelf+f.suffix()).
			immediate(reg1, host.AsSlice()).nat(expr.NATTypeSourceNAT, f, false))
	}
	for _, p := range []netip.Prefix{n.cfg.Ranges.InstancesV4, n.cfg.Ranges.InstancesV6} {
		if p.IsValid() {
			rules = append(rules, match().from(p).oif(ne, n.prefix()).oif(ne, "lo\x00").and(&expr.Masq{}))
		}
	}
	b.baseChain("egress", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource-5, rules...)
}
