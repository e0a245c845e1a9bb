package notify

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/marucloud/maru"
)

// dialTime is how long a connection may take to be made.
const dialTime = 10 * time.Second

// special are ranges that lead to no public host, or by way of another address to any, beside those that net/netip
// knows. See the IANA's special-purpose address registries (RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

// public tells whether an address is one of a host that anybody could reach.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// dialer connects to public addresses only, unless private ones are permitted. The address is looked at when it
// is connected to, whatever name led there.
func dialer(private bool) *net.Dialer {
	d := &net.Dialer{Timeout: dialTime}
	if !private {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !public(to.Addr()) {
				return maru.WithHint(maru.Errorf(maru.Denied, "the address is not a public one"),
					"an administrator of the machine may permit it: maru notify add --private")
			}
			return nil
		}
	}
	return d
}
