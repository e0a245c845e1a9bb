package network

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// family is an IP version as rules see it.
type family byte

const (
	four family = 4
	six  family = 6
)

var families = []family{four, six}

func (f family) suffix() string { return string('0' + rune(f)) }

func (f family) nfproto() byte {
	if f == four {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

func (f family) addrType() nftables.SetDatatype {
	if f == four {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// Registers. A concatenated key lies in the registers one after the other, each part in whole 4 bytes.
const (
	reg1      = unix.NFT_REG_1
	reg2      = unix.NFT_REG_2
	reg1plus4 = unix.NFT_REG32_01 // 4 bytes into reg1
)

// after gives the register behind an address in reg1.
func (f family) after() uint32 {
	if f == four {
		return reg1plus4
	}
	return reg2
}

// exprs is a rule in the making.
type exprs []expr.Any

func (e exprs) and(more ...expr.Any) exprs { return append(e[:len(e):len(e)], more...) }

func match(more ...expr.Any) exprs { return exprs(more) }

// iif and oif match interfaces whose name begins with prefix; whole names end in a zero byte.
func (e exprs) iif(op expr.CmpOp, prefix string) exprs {
	return e.and(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1}, &expr.Cmp{Op: op, Register: reg1, Data: []byte(prefix)})
}

func (e exprs) oif(op expr.CmpOp, prefix string) exprs {
	return e.and(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, &expr.Cmp{Op: op, Register: reg1, Data: []byte(prefix)})
}

// ip matches packets of the family.
func (e exprs) ip(f family) exprs {
	return e.and(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{f.nfproto()}})
}

// saddr and daddr load the address into the register.
func (e exprs) saddr(f family, reg uint32) exprs {
	if f == four {
		return e.network(12, 4, reg)
	}
	return e.network(8, 16, reg)
}

func (e exprs) daddr(f family, reg uint32) exprs {
	if f == four {
		return e.network(16, 4, reg)
	}
	return e.network(24, 16, reg)
}

func (e exprs) network(offset, size, reg uint32) exprs {
	return e.and(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
}

// dport loads the destination port into the register.
func (e exprs) dport(reg uint32) exprs {
	return e.and(&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// within compares the address in reg1 with a prefix.
func (e exprs) within(p netip.Prefix) exprs {
	addr := p.Masked().Addr().AsSlice()
	if p.IsSingleIP() {
		return e.and(&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: addr})
	}
	mask := []byte(ipNet(p).Mask)
	return e.and(
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: addr})
}

func (e exprs) from(p netip.Prefix) exprs {
	f := familyOf(p.Addr())
	return e.ip(f).saddr(f, reg1).within(p)
}

func (e exprs) to(p netip.Prefix) exprs {
	f := familyOf(p.Addr())
	return e.ip(f).daddr(f, reg1).within(p)
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return four
	}
	return six
}

func (e exprs) l4proto(proto byte) exprs {
	return e.and(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{proto}})
}

func (e exprs) port(proto byte, port uint16) exprs {
	return e.l4proto(proto).dport(reg1).and(&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binary.BigEndian.AppendUint16(nil, port)})
}

func (e exprs) icmpType(proto, kind byte) exprs {
	return e.l4proto(proto).and(
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{kind}})
}

// ctBits matches when any of the bits is set in the connection's state or status.
func (e exprs) ctBits(key expr.CtKey, bits uint32) exprs {
	return e.and(&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)})
}

// in matches when the key that begins in reg1 is in the set.
func (e exprs) in(set string) exprs {
	return e.and(&expr.Lookup{SourceRegister: reg1, SetName: set})
}

// vmap does as the map says for the key that begins in reg1.
func (e exprs) vmap(set string, id uint32) exprs {
	return e.and(&expr.Lookup{SourceRegister: reg1, SetName: set, SetID: id, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true})
}

// mapped replaces the key that begins in reg1 by its value.
func (e exprs) mapped(set string) exprs {
	return e.and(&expr.Lookup{SourceRegister: reg1, SetName: set, DestRegister: reg1, IsDestRegSet: true})
}

// nat rewrites the address to that in reg1, and the port to that in reg2.
func (e exprs) nat(kind expr.NATType, f family, withPort bool) exprs {
	n := &expr.NAT{Type: kind, Family: uint32(f.nfproto()), RegAddrMin: reg1}
	if withPort {
		n.RegProtoMin, n.Specified = reg2, true
	}
	return e.and(n)
}

func (e exprs) immediate(reg uint32, data []byte) exprs {
	return e.and(&expr.Immediate{Register: reg, Data: data})
}

func (e exprs) verdict(kind expr.VerdictKind, chain string) exprs {
	return e.and(&expr.Verdict{Kind: kind, Chain: chain})
}

func (e exprs) accept() exprs            { return e.verdict(expr.VerdictAccept, "") }
func (e exprs) drop() exprs              { return e.verdict(expr.VerdictDrop, "") }
func (e exprs) back() exprs              { return e.verdict(expr.VerdictReturn, "") }
func (e exprs) jump(chain string) exprs  { return e.verdict(expr.VerdictJump, chain) }
func (e exprs) leave(chain string) exprs { return e.verdict(expr.VerdictGoto, chain) }
func (e exprs) reset() exprs {
	return e.l4proto(unix.IPPROTO_TCP).and(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
}
func (e exprs) refuse(code uint8) exprs {
	return e.and(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: code})
}
