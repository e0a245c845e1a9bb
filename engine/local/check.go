package local

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/marucloud/maru"
)

// checkWorkload refuses what is wrong whatever image it is for.
func checkWorkload(w maru.Workload) error {
	for what, name := range map[string]string{
		"project": w.ID.Project, "environment": w.ID.Environment, "app": w.ID.App, "service": w.ID.Service, "workload": w.ID.Name,
	} {
		if err := maru.CheckName(what, name); err != nil {
			return err
		}
	}
	if w.Kind != maru.LongRunning && w.Kind != maru.Job {
		return maru.Errorf(maru.Invalid, "kind %q is not known", w.Kind)
	}
	if digestOf(w.Image) == "" {
		return maru.Errorf(maru.Invalid, "image %q has no digest", w.Image)
	}
	if w.Replicas < 0 {
		return maru.Errorf(maru.Invalid, "%d replicas", w.Replicas)
	}
	if err := checkMounts(w); err != nil {
		return err
	}
	if name := w.Container.Stop.Signal; name != "" {
		if _, err := parseSignal(name); err != nil {
			return err
		}
	}
	return checkNetworkFiles(w.Container)
}

// checkNetworkFiles keeps what is written to /etc/hosts and /etc/resolv.conf within its lines.
func checkNetworkFiles(c maru.Container) error {
	for _, entry := range c.ExtraHosts {
		if _, err := netip.ParseAddr(entry.Address); err != nil && entry.Address != "host-gateway" {
			return maru.Errorf(maru.Invalid, "extra host %s: %q is no address", entry.Name, entry.Address)
		}
	}
	for _, server := range c.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return maru.Errorf(maru.Invalid, "name server %q is no address", server)
		}
	}
	words := append(append([]string{c.Hostname, c.Domainname}, c.DNSSearch...), c.DNSOptions...)
	for _, entry := range c.ExtraHosts {
		words = append(words, entry.Name)
	}
	for _, word := range words {
		if strings.ContainsAny(word, " \t\r\n#") {
			return maru.Errorf(maru.Invalid, "%q is not a host name or a resolver option", word)
		}
	}
	return nil
}

// checkImage refuses an image that is not there, and what can't be made of image and workload
// together. The dry run finds what the real one would.
func (e *Engine) checkImage(ctx context.Context, w maru.Workload) error {
	ctx = inNamespace(ctx)
	record, err := e.images.find(ctx, w.Image)
	if err != nil {
		return err
	}
	info, err := e.images.describe(ctx, record)
	if err != nil {
		return err
	}
	for _, m := range w.Container.Mounts {
		if m.Kind != maru.ImageMount {
			continue
		}
		if _, err := e.images.find(ctx, m.Source); err != nil {
			return err
		}
	}
	_, err = newSpec(ctx, specInput{Workload: w, Instance: "check", Image: info, Host: e.host, Hostname: "check", Warn: slog.New(slog.DiscardHandler)})
	return err
}
