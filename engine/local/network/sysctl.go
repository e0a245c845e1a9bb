package network

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctlRoot shows the settings of the network namespace of whoever opens a file in it.
const sysctlRoot = "/proc/sys/net/"

func readSysctl(name string) (string, error) {
	data, err := os.ReadFile(sysctlRoot + name)
	return strings.TrimSpace(string(data)), err
}

func writeSysctl(name, value string) error {
	return os.WriteFile(sysctlRoot+name, []byte(value), 0)
}

// ipv6Usable tells whether the machine has IPv6 and it is not switched off, neither for the host's
// address nor for interfaces to come.
func ipv6Usable() bool {
	for _, name := range []string{"lo", "default"} {
		if off, err := readSysctl("ipv6/conf/" + name + "/disable_ipv6"); err != nil || off != "0" {
			return false
		}
	}
	return true
}

// setting is a sysctl that was changed, to be put back by Teardown.
type setting struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// wantedSettings are the sysctls that must change, in the order to write them.
func (n *Network) wantedSettings() ([]setting, error) {
	var out []setting
	want := func(name, value string) error {
		before, err := readSysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && before != value {
			out = append(out, setting{name, before, value})
		}
		return err
	}
	if n.cfg.Ranges.InstancesV6.IsValid() {
		// A forwarding machine ignores router advertisements unless told otherwise: it would lose its
		// own way out.
		names, err := filepath.Glob(sysctlRoot + "ipv6/conf/*/accept_ra")
		if err != nil {
			return nil, err
		}
		forwarding, err := readSysctl("ipv6/conf/all/forwarding")
		if err != nil {
			return nil, err
		}
		for _, path := range names {
			name := strings.TrimPrefix(path, sysctlRoot)
			if value, err := readSysctl(name); err != nil || value != "1" || forwarding == "1" {
				continue
			}
			out = append(out, setting{name, "1", "2"})
		}
		if err := want("ipv6/conf/all/forwarding", "1"); err != nil {
			return nil, err
		}
	}
	return out, want("ipv4/ip_forward", "1")
}
