package buildnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru/internal/dump"
)

// gateway is the address to which steps send what is for others; the link's other end answers for it,
// without having it.
var gateway = netip.MustParseAddr("169.254.0.1")

// linkPrefix begins the names of links on the host, and of no link of an instance.
func linkPrefix(name string) string { return "_" + name + "_" }

// connect joins the namespace to the host by a link, and sets both ends up. Neighbours are set rather
// than asked for: each end has exactly one.
func connect(name string, address netip.Addr, namespace *os.File) error {
	inner, err := netlink.NewHandleAt(netnsHandle(namespace))
	if err != nil {
		return err
	}
	defer inner.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(namespace.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	here, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	there, err := inner.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := hostEnd(here, there, address); err != nil {
		return err
	}
	return stepEnd(inner, here, there, address)
}

func hostEnd(here, there netlink.Link, address netip.Addr) error {
	if err := netlink.LinkSetUp(here); err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: here.Attrs().Index, Dst: single(address), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(route); err != nil {
		return err
	}
	return netlink.NeighSet(neighbour(here, address, there.Attrs().HardwareAddr))
}

func stepEnd(inner *netlink.Handle, here, there netlink.Link, address netip.Addr) error {
	lo, err := inner.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inner.AddrAdd(lo, &netlink.Addr{IPNet: single(nameserver)}); err != nil {
		return err
	}
	if err := inner.AddrAdd(there, &netlink.Addr{IPNet: single(address)}); err != nil {
		return err
	}
	for _, l := range []netlink.Link{lo, there} {
		if err := inner.LinkSetUp(l); err != nil {
			return err
		}
	}
	if err := inner.NeighSet(neighbour(there, gateway, here.Attrs().HardwareAddr)); err != nil {
		return err
	}
	return inner.RouteAdd(&netlink.Route{
		LinkIndex: there.Attrs().Index, Gw: gateway.AsSlice(), Src: address.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

func neighbour(l netlink.Link, address netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: l.Attrs().Index, IP: address.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: unix.AF_INET,
	}
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func removeLink(name string) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(l)
	}
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func removeLinks(name string) error {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return err
	}
	var failed []error
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, linkPrefix(name)) && l.Type() == "veth" {
			failed = append(failed, removeLink(l.Attrs().Name))
		}
	}
	return errors.Join(failed...)
}
