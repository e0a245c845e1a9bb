package network

import (
	"net"
	"net/netip"

	"github.com/marucloud/maru"
)

// validateRanges refuses ranges that overlap each other or are too small or of the wrong family.
// The IPv6 ranges may be left out, together.
func validateRanges(r maru.Ranges) error {
	four, six := []netip.Prefix{r.InstancesV4, r.VirtualV4}, []netip.Prefix{r.InstancesV6, r.VirtualV6}
	for _, p := range four {
		if !p.IsValid() || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 29 {
			return maru.WithHint(maru.Errorf(maru.Invalid, "range %v is not an IPv4 prefix of 8 to 29 bits", p), "use one such as 10.210.0.0/16")
		}
	}
	if four[0].Overlaps(four[1]) {
		return maru.Errorf(maru.Invalid, "the ranges %v and %v overlap", four[0], four[1])
	}
	if !six[0].IsValid() && !six[1].IsValid() {
		return nil
	}
	for _, p := range six {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() < 16 || p.Bits() > 112 {
			return maru.WithHint(maru.Errorf(maru.Invalid, "range %v is not an IPv6 prefix of 16 to 112 bits", p), "use one such as fd6d:6172:7500:1::/64")
		}
	}
	if six[0].Overlaps(six[1]) {
		return maru.Errorf(maru.Invalid, "the ranges %v and %v overlap", six[0], six[1])
	}
	return nil
}

// offsetAddr gives the address that many places into the prefix.
func offsetAddr(p netip.Prefix, offset uint32) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := len(b) - 1; i >= 0 && offset > 0; i-- {
		sum := uint32(b[i]) + offset&0xff
		b[i] = byte(sum)
		offset = offset>>8 + sum>>8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// addrOffset is the inverse of offsetAddr, false for what is outside the prefix or too far in.
func addrOffset(p netip.Prefix, a netip.Addr) (uint32, bool) {
	if !p.IsValid() || !p.Contains(a) {
		return 0, false
	}
	base, b := p.Masked().Addr().AsSlice(), a.AsSlice()
	var offset uint64
	for i := range b {
		offset = offset<<8 | uint64(b[i]^base[i])
		if offset > 1<<32-1 {
			return 0, false
		}
	}
	return uint32(offset), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
