//go:build vm

package vm

import (
	"fmt"
	"strings"
	"testing"
)

// footprint lists all that Maru may leave on a machine.
const footprint = `ip -o link | awk '{print $2}'; ip -4 route show table all; ip -6 route show table all | grep -v 'expires\|\(^\|^local \)fe80\|^multicast\|fec0'; ip rule; ip -6 rule
	nft list ruleset; find /sys/fs/cgroup -maxdepth 1 -type d -name '*maru*'
	awk '{print $5}' /proc/self/mountinfo | grep maru || true; ip netns list
	ps -e -o comm= | grep -x 'maru\|app\|containerd-shim.*\|runc' || true
	getent passwd maru-proxy || true
	find /etc /usr /var/lib /run -xdev -name '*maru*' -not -path '/etc/hostname' -not -path '/run/udev/*' -not -path '/dev/*' -not -path '/var/lib/systemd/*' | sort`

func unchanged(t *testing.T, m *machine, before string) {
	t.Helper()
	if after := m.run(t, footprint); after != before {
		t.Errorf("something is left over. Before:\n%s\n\nafter:\n%s", before, after)
	}
}

func install(t *testing.T, m *machine) {
	if kind := m.run(t, "stat -fc %T /sys/fs/cgroup"); kind != "cgroup2fs" {
		t.Fatalf("cgroups are %s, not version 2", kind)
	}
	m.step(t, "install the package of version %s", older)
	m.run(t, "dpkg -i /payload/maru_"+older+"_amd64.deb")
	m.run(t, "systemctl is-active maru-runtime maru-server maru-proxy maru.target")
	m.run(t, "systemctl is-enabled maru.target")
	if failed := m.run(t, "systemctl --failed --plain --no-legend"); failed != "" {
		t.Errorf("units failed: %s", failed)
	}
	if user := m.run(t, "ps -o user= -p $(systemctl show -P MainPID maru-proxy)"); user != "maru-proxy" {
		t.Errorf("the proxy runs as %q", user)
	}
	m.run(t, "maru status --platform | grep -q 'proxy .*running'")
	if code, output := m.try(t, "maru start"); code == 0 || !strings.Contains(output, "systemd") {
		t.Errorf("a second start ended with %d: %s", code, output)
	}
	m.run(t, "test -e /usr/share/bash-completion/completions/maru -a -e /usr/share/zsh/vendor-completions/_maru -a -e /usr/share/fish/vendor_completions.d/maru.fish")
}

func upgrade(t *testing.T, m *machine) {
	running := m.run(t, containers)
	m.step(t, "install the package of version %s over it", newer)
	m.underLoad(t, "http://shop.localhost/healthz", func() { m.run(t, "dpkg -i /payload/maru_"+newer+"_amd64.deb") })
	same(t, m, running)
	m.run(t, "maru status --platform | grep -q 'server .*"+newer+"'")
	for _, process := range []string{"runtime", "server", "proxy"} {
		if target := m.run(t, "readlink /proc/$(systemctl show -P MainPID maru-"+process+")/exe"); target != "/usr/bin/maru" {
			t.Errorf("%s runs %s, not the new program", process, target)
		}
	}
	m.run(t, smoke)
	clean(t, m)
}

// remove removes the package: the data stays, and goes when it is purged.
func remove(t *testing.T, m *machine, before string) {
	m.step(t, "remove the package")
	m.run(t, "dpkg -r maru")
	if left := m.run(t, "{ pgrep -x app; pgrep -x service; pgrep -x containerd-shim; } || true"); left != "" {
		t.Errorf("instances run on without Maru: %s", left)
	}
	m.run(t, "test -d /var/lib/maru/volumes")
	m.step(t, "install it again: the apps come back")
	m.run(t, "dpkg -i /payload/maru_"+newer+"_amd64.deb")
	settled(t, m)
	ordered(t, m, "first")
	m.step(t, "purge the package")
	m.run(t, "dpkg -P maru")
	unchanged(t, m, before)
}

// archive installs from the archive, deploys, and takes everything out again.
func archive(t *testing.T, m *machine, before string) {
	release := "/root/maru-" + newer + "-linux-amd64"
	m.step(t, "install the archive")
	m.run(t, "cd /root && tar -xzf /payload/maru-"+newer+"-linux-amd64.tar.gz && "+release+"/install.sh")
	m.run(t, "systemctl is-active maru-runtime maru-server maru-proxy")
	m.run(t, "test -e /usr/local/share/bash-completion/completions/maru")
	m.run(t, "maru image load /payload/images.tar")
	m.run(t, fmt.Sprintf(deploy, "1"))
	m.run(t, smoke)
	m.step(t, "take it out again")
	m.run(t, release+"/install.sh uninstall")
	m.run(t, "test -d /var/lib/maru/volumes")
	m.run(t, "rm -rf --one-file-system /var/lib/maru")
	unchanged(t, m, before)
}
