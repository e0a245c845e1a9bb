package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// instanceLink is the name of an instance's interface within its namespace.
const instanceLink = "eth0"

// routeProtocol marks the routes that are ours.
const routeProtocol = 0x6d

// linkName gives the name of an instance's interface on the host: as unique as its address is.
func (n *Network) linkName(a maru.Addresses) (string, error) {
	offset, ok := addrOffset(n.cfg.Ranges.InstancesV4, a.V4)
	if !ok {
		return "", maru.Errorf(maru.Invalid, "address %v is not in the range %v", a.V4, n.cfg.Ranges.InstancesV4)
	}
	return n.prefix() + strconv.FormatUint(uint64(offset), 16), nil
}

// isLink tells whether an interface of the host is an instance's.
func (n *Network) isLink(name string) bool { return strings.HasPrefix(name, n.prefix()) }

// hardwareAddr gives the two ends' addresses, fixed, so that nobody has to ask.
func hardwareAddr(a maru.Addresses, end byte) net.HardwareAddr {
	v4 := a.V4.As4()
	return append(net.HardwareAddr{0x02, end}, v4[:]...)
}

const (
	hostEnd     = 0x01
	instanceEnd = 0x02
)

// addresses are those of the attachment that the machine can use.
func (n *Network) addresses(a attachment) []netip.Addr {
	out := []netip.Addr{a.Addresses.V4}
	if a.Addresses.V6.IsValid() && n.cfg.Ranges.InstancesV6.IsValid() {
		out = append(out, a.Addresses.V6)
	}
	return out
}

// connect makes the pair of interfaces between the host and the namespace, with all that is needed
// to reach each other without asking: addresses, routes, permanent neighbours.
func (n *Network) connect(a attachment, inside *netlink.Handle, ns *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Link, n.mtu, hardwareAddr(a.Addresses, hostEnd)
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: instanceLink, PeerMTU: uint32(n.mtu),
		PeerHardwareAddr: hardwareAddr(a.Addresses, instanceEnd), PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	err := n.host.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) { // of an instance that had the address before
		if err = n.removeLink(a.Link); err == nil {
			err = n.host.LinkAdd(veth)
		}
	}
	if err != nil {
		return fmt.Errorf("add link %s: %w", a.Link, err)
	}
	if err := n.connectInside(a, inside); err != nil {
		return fmt.Errorf("within the namespace: %w", err)
	}
	return n.connectHost(a)
}

func (n *Network) connectHost(a attachment) error {
	link, err := n.host.LinkByName(a.Link)
	if err != nil {
		return fmt.Errorf("link %s: %w", a.Link, err)
	}
	for _, setting := range []string{"rp_filter", "forwarding"} {
		if err := writeSysctl("ipv4/conf/"+a.Link+"/"+setting, "1"); err != nil {
			return err
		}
	}
	if err := bringUp(n.host, link, len(n.addresses(a)) > 1); err != nil {
		return fmt.Errorf("link %s up: %w", a.Link, err)
	}
	for i, addr := range n.addresses(a) {
		index := link.Attrs().Index
		if err := n.host.NeighSet(permanent(index, addr, hardwareAddr(a.Addresses, instanceEnd))); err != nil {
			return fmt.Errorf("neighbour %v: %w", addr, err)
		}
		route := &netlink.Route{
			LinkIndex: index, Dst: hostNet(addr), Src: n.hosts()[i].AsSlice(), Scope: netlink.SCOPE_LINK, Protocol: routeProtocol,
		}
		if addr.Is6() {
			route.Scope = netlink.SCOPE_UNIVERSE
		}
		if err := n.host.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %v: %w", addr, err)
		}
	}
	return nil
}

func (n *Network) connectInside(a attachment, inside *netlink.Handle) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return err
	}
	link, err := inside.LinkByName(instanceLink)
	if err != nil {
		return err
	}
	if err := bringUp(inside, link, len(n.addresses(a)) > 1); err != nil {
		return err
	}
	index := link.Attrs().Index
	for i, addr := range n.addresses(a) {
		// Nobody else has the address: there is nothing to detect.
		if err := inside.AddrReplace(link, &netlink.Addr{IPNet: hostNet(addr), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %v: %w", addr, err)
		}
		gateway := n.hosts()[i]
		if err := inside.NeighSet(permanent(index, gateway, hardwareAddr(a.Addresses, hostEnd))); err != nil {
			return fmt.Errorf("gateway %v: %w", gateway, err)
		}
		all := netip.PrefixFrom(addr, 0).Masked()
		route := &netlink.Route{LinkIndex: index, Dst: ipNet(all), Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := inside.RouteReplace(route); err != nil {
			return fmt.Errorf("route by %v: %w", gateway, err)
		}
	}
	return nil
}

// bringUp sets the link up, without the link-local address that nobody would use and that would take
// a second to be sure of.
func bringUp(h *netlink.Handle, link netlink.Link, v6 bool) error {
	if v6 {
		if err := h.LinkSetIP6AddrGenMode(link, nlAddrGenNone); err != nil {
			return err
		}
	}
	return h.LinkSetUp(link)
}

const nlAddrGenNone = 1 // IN6_ADDR_GEN_MODE_NONE

func permanent(link int, addr netip.Addr, hw net.HardwareAddr) *netlink.Neigh {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	return &netlink.Neigh{LinkIndex: link, Family: family, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hw}
}

// removeLink deletes an interface of the host; one that is gone already is no error.
func (n *Network) removeLink(name string) error {
	link, err := n.host.LinkByName(name)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.removeLinkIndex(link.Attrs().Index)
}

func (n *Network) removeLinkIndex(index int) error {
	err := n.host.LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err == nil || isGone(err) {
		return nil
	}
	return err
}

func isGone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}

func addrOf(a netip.Addr) *netlink.Addr { return &netlink.Addr{IPNet: hostNet(a)} }

// isAbsent tells whether an address was not there to be removed.
func isAbsent(err error) bool { return errors.Is(err, unix.EADDRNOTAVAIL) }
