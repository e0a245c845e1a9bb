package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/dump"
)

func TestAttachIsIdempotent(t *testing.T) {
	h := newHost(t, Config{})
	web := h.instance("web-1-a", specOf(shop.Service("web")))
	rules := ruleset(t)
	spec := specOf(shop.Service("web"))
	spec.Addresses = web.Addresses
	path, err := h.Attach(t.Context(), "web-1-a", spec)
	check(t, err)
	if path != web.ns || h.itself().ask("tcp", web.V4, 80) != "web-1-a 10.211.0.1" {
		t.Error("the instance was disturbed")
	}
	if diff := cmp.Diff(rules, ruleset(t)); diff != "" {
		t.Error(diff)
	}

	other := spec
	other.Service = shop.Service("db")
	if _, err := h.Attach(t.Context(), "db-1-a", other); maru.KindOf(err) != maru.Conflict {
		t.Errorf("an address twice: %v", err)
	}
	other.Isolated = true
	_, err = h.Attach(t.Context(), "web-1-a", other) // as something else
	check(t, err)
	if rules := ruleset(t); !strings.Contains(rules, web.V4.String()+" }") {
		t.Errorf("it is not isolated:\n%s", rules)
	}
	if _, err := h.Attach(t.Context(), "x/y", spec); maru.KindOf(err) != maru.Invalid {
		t.Error(err)
	}
	spec.Addresses = maru.Addresses{V4: outsideV4}
	if _, err := h.Attach(t.Context(), "web-1-b", spec); maru.KindOf(err) != maru.Invalid {
		t.Error(err)
	}
	check(t, h.Detach(t.Context(), "web-1-b"))
}

// An attach that fails half way leaves nothing, and can be tried again.
func TestAttachFails(t *testing.T) {
	h := newHost(t, Config{})
	addrs, err := h.Allocate()
	check(t, err)
	spec := specOf(shop.Service("web"))
	spec.Addresses = addrs
	before := traces(t, h.Network)
	h.mtu = 1 << 20 // refused by the kernel
	if _, err := h.Attach(t.Context(), "web-1-a", spec); err == nil {
		t.Fatal("attached")
	}
	check(t, h.clean())
	if diff := cmp.Diff(before, traces(t, h.Network)); diff != "" {
		t.Errorf("left over:\n%s", diff)
	}
	h.mtu = 1500
	_, err = h.Attach(t.Context(), "web-1-a", spec)
	check(t, err)
}

func TestAttachInParallel(t *testing.T) {
	h := newHost(t, Config{})
	stop := h.running()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			id := fmt.Sprintf("web-1-%d", i)
			for range 5 {
				spec := specOf(shop.Service("web"))
				var err error
				if spec.Addresses, err = h.Allocate(); err != nil {
					t.Error(err)
					return
				}
				if _, err := h.Attach(t.Context(), id, spec); err != nil {
					t.Error(err)
				}
				if err := h.Detach(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "no links remain", func() bool { return !strings.Contains(output(t, "ip", "-o", "link"), "maru-") })
	stop()
	if rules := ruleset(t); strings.Contains(rules, "maru-1") {
		t.Error(rules)
	}
}

func TestAddressesAreNotReusedSoon(t *testing.T) {
	h := newHost(t, Config{})
	seen := map[netip.Addr]bool{}
	for i := range 50 {
		id := fmt.Sprintf("web-1-%d", i)
		spec := specOf(shop.Service("web"))
		var err error
		spec.Addresses, err = h.Allocate()
		check(t, err)
		if seen[spec.Addresses.V4] {
			t.Fatalf("%v again", spec.Addresses.V4)
		}
		seen[spec.Addresses.V4] = true
		_, err = h.Attach(t.Context(), id, spec)
		check(t, err)
		h.Release(spec.Addresses) // in use: no effect
		check(t, h.Detach(t.Context(), id))
		check(t, h.clean())
	}
	if len(h.addrs.used) != 0 || len(h.addrs.resting) != 50 {
		t.Errorf("%d are used and %d rest", len(h.addrs.used), len(h.addrs.resting))
	}
}

func TestWithoutIPv6(t *testing.T) {
	needRoot(t)
	check(t, writeSysctl("ipv6/conf/lo/disable_ipv6", "1"))
	t.Cleanup(func() { check(t, writeSysctl("ipv6/conf/lo/disable_ipv6", "0")) })
	h := newHost(t, Config{})
	if h.Host().V6.IsValid() {
		t.Error("the host has an IPv6 address")
	}
	w := h.instance("web-1-a", specOf(shop.Service("web")))
	if w.V6.IsValid() {
		t.Errorf("it got %v", w.V6)
	}
	h.update(true, traffic(shop.Service("web"), 10, w))
	if got := w.ask("tcp", virtual(10).V4, 80); got != "web-1-a 10.211.0.1" {
		t.Errorf("got %s", got)
	}
}

func TestLinksHaveTheMTUOfTheWayOut(t *testing.T) {
	h := newMachine(t)
	up, err := netlink.LinkByName("up0")
	check(t, err)
	check(t, netlink.LinkSetMTU(up, 1400))
	h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
	check(t, h.Setup(t.Context()))
	t.Cleanup(func() { check(t, h.Teardown(context.Background())) })
	w := h.instance("web-1-a", specOf(shop.Service("web")))
	within(t, w.ns, func() {
		links, err := dump.Whole(netlink.LinkList)
		check(t, err)
		i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == "eth0" })
		if links[i].Attrs().MTU != 1400 {
			t.Errorf("MTU %d", links[i].Attrs().MTU)
		}
	})
}
