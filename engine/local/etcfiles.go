package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru"
)

// etcInput is what the generated files of an attempt say.
type etcInput struct {
	Workload  maru.Workload
	Instance  string
	Hostname  string
	Addresses maru.Addresses
	Gateway   maru.Addresses // the machine, as instances see it
	Host      hostFacts
	Owner     int // of the files, on the host
}

// writeEtc generates /etc/hosts, /etc/hostname and /etc/resolv.conf in a folder and gives their mounts.
func writeEtc(folder string, in etcInput) ([]specs.Mount, error) {
	var mounts []specs.Mount
	for _, file := range []struct{ name, content string }{
		{"hosts", hostsFile(in)}, {"hostname", in.Hostname + "\n"}, {"resolv.conf", resolvFile(in)},
	} {
		path := filepath.Join(folder, file.name)
		if err := errors.Join(os.WriteFile(path, []byte(file.content), 0o644), os.Chown(path, in.Owner, in.Owner)); err != nil {
			return nil, err
		}
		mounts = append(mounts, bindMount(path, "/etc/"+file.name, in.Workload.Container.ReadOnly, ""))
	}
	return mounts, nil
}

func hostsFile(in etcInput) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	names := in.Hostname
	if domain := in.Workload.Container.Domainname; domain != "" {
		names = in.Hostname + "." + domain + " " + in.Hostname
	}
	if in.Instance != in.Hostname {
		names += " " + in.Instance
	}
	for _, address := range []netip.Addr{in.Addresses.V4, in.Addresses.V6} {
		if address.IsValid() && !in.Workload.Container.Host.HostNetwork {
			fmt.Fprintf(&b, "%s\t%s\n", address, names)
		}
	}
	for _, entry := range in.Workload.Container.ExtraHosts {
		if entry.Address != "host-gateway" {
			fmt.Fprintf(&b, "%s\t%s\n", entry.Address, entry.Name)
			continue
		}
		for _, address := range []netip.Addr{in.Gateway.V4, in.Gateway.V6} {
			if address.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", address, entry.Name)
			}
		}
	}
	return b.String()
}

// resolvFile has the platform's name server asked first, and the container's own when that is away.
func resolvFile(in etcInput) string {
	c := in.Workload.Container
	if c.Host.HostNetwork && len(c.DNS) == 0 {
		return string(in.Host.resolvConf)
	}
	var b strings.Builder
	search := c.DNSSearch
	if !c.Host.HostNetwork {
		fmt.Fprintf(&b, "nameserver %s\n", in.Gateway.V4)
		if len(search) == 0 {
			search = []string{in.Workload.ID.App + ".internal"}
		}
	}
	for _, server := range c.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(search) > 0 && search[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	options := c.DNSOptions
	if len(options) == 0 {
		options = []string{"ndots:0"}
	}
	fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	return b.String()
}
