package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/godbus/dbus/v5"
)

// Newer versions of firewalld own their table: the kernel lets nobody else change it. They are asked
// over D-Bus to trust what comes from instances; ours decides what of it really passes.
const (
	firewalldTable = "firewalld"
	firewalldName  = "org.fedoraproject.FirewallD1"
	firewalldPath  = "/org/fedoraproject/FirewallD1"
	firewalldZone  = "trusted"

	// firewalldPatience is how long it may take to answer: it does while it loads its rules.
	firewalldPatience = 10 * time.Second
)

// firewalld calls f for each range of instances with an object to call methods of the zone
// interface on.
func (n *Network) firewalld(ctx context.Context, f func(call func(method string) *dbus.Call, source string) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firewalldPatience, errors.New("firewalld does not answer"))
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("system bus: %w", err)
	}
	defer bus.Close()
	object := bus.Object(firewalldName, firewalldPath)
	var errs []error
	for _, p := range []netip.Prefix{n.cfg.Ranges.InstancesV4, n.cfg.Ranges.InstancesV6} {
		if !p.IsValid() {
			continue
		}
		source := p.Masked().String()
		err := f(func(method string) *dbus.Call {
			return object.CallWithContext(ctx, firewalldName+".zone."+method, 0, firewalldZone, source)
		}, source)
		if err != nil {
			errs = append(errs, fmt.Errorf("firewalld, source %s: %w", source, err))
		}
	}
	return errors.Join(errs...)
}

// befriendFirewalld makes firewalld trust what comes from instances, until it is reloaded.
func (n *Network) befriendFirewalld(ctx context.Context) error {
	return n.firewalld(ctx, func(call func(string) *dbus.Call, source string) error {
		trusted := false
		if err := call("querySource").Store(&trusted); err != nil || trusted {
			return err
		}
		// Noted down before, so that whoever takes the network down knows.
		saved, _, err := n.readMachine()
		if err != nil {
			return err
		}
		saved.Firewalld = true
		if err := writeFile(n.machinePath(), saved); err != nil {
			return err
		}
		if err := call("addSource").Err; err != nil {
			return err
		}
		n.log.Info("firewalld now trusts what comes from instances", "source", source)
		return nil
	})
}

// partFirewalld takes that back.
func (n *Network) partFirewalld(ctx context.Context) error {
	saved, _, err := n.readMachine()
	if err != nil || !saved.Firewalld {
		return err
	}
	return n.firewalld(ctx, func(call func(string) *dbus.Call, _ string) error {
		trusted := false
		if err := call("querySource").Store(&trusted); err != nil || !trusted {
			return err
		}
		return call("removeSource").Err
	})
}
