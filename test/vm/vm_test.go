//go:build vm

package vm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	deploy = "cd /root/shop && TAG=%s maru deploy -f compose.yaml -f prebuilt.yaml"
	smoke  = "/payload/smoke -url http://shop.localhost -wait 8m -quiet"
)

// TestMaru goes through the life of an installation. Each part stands on those before.
func TestMaru(t *testing.T) {
	base, payload := prepare(t)
	m := newMachine(t, base, payload)
	m.on(t)
	before := m.run(t, footprint)
	for _, part := range []struct {
		name string
		do   func(*testing.T, *machine)
	}{
		{"install", install},
		{"deploy", deployShop},
		{"restart", restartProcesses},
		{"upgrade", upgrade},
		{"reboot", reboot},
		{"power cut", powerCuts},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.do(t, m); log(t, m) }) {
			return
		}
	}
	t.Run("remove", func(t *testing.T) { remove(t, m, before) })
	t.Run("tar", func(t *testing.T) { archive(t, m, before) })
}

// log shows the end of the platform's log when the part failed.
func log(t *testing.T, m *machine) {
	if !t.Failed() {
		return
	}
	_, output := m.try(t, "maru status --platform; maru status --app shop; journalctl -b --no-pager -o short-monotonic -u 'maru-*' | tail -n 120")
	t.Log(output)
}

func install(t *testing.T, m *machine) {
	if kind := m.run(t, "stat -fc %T /sys/fs/cgroup"); kind != "cgroup2fs" {
		t.Fatalf("cgroups are %s, not version 2", kind)
	}
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
}

func deployShop(t *testing.T, m *machine) {
	m.run(t, "mkdir -p /root/shop && cd /payload && cp compose.yaml prebuilt.yaml payments_key.txt /root/shop/")
	m.run(t, "maru image load /payload/images.tar")
	m.run(t, fmt.Sprintf(deploy, "1"))
	m.run(t, smoke)
	order(t, m, "first")
}

// order places an order and keeps its number in a file of that name.
func order(t *testing.T, m *machine, name string) {
	t.Helper()
	m.run(t, `set -o pipefail
		curl -sSf --resolve shop.localhost:80:127.0.0.1 -H 'Accept: application/json' -d customer=`+name+` -d q-sejak=1 http://shop.localhost/orders |
			jq -er .id >/root/order-`+name+`
		sync /root/order-`+name)
	ordered(t, m, name)
}

// ordered checks that the order is still known.
func ordered(t *testing.T, m *machine, name string) {
	t.Helper()
	m.eventually(t, "the order "+name, `curl -sSf --resolve shop.localhost:80:127.0.0.1 http://shop.localhost/orders/$(cat /root/order-`+name+`) | grep -q `+name)
}

// settled waits until every instance of the shop is ready.
func settled(t *testing.T, m *machine) {
	t.Helper()
	m.eventually(t, "the shop runs", "maru status --app shop | grep -q '^shop in production: running'")
}

// restartProcesses replaces each process, in good order and by force, under load.
func restartProcesses(t *testing.T, m *machine) {
	running := m.run(t, containers)
	m.underLoad(t, func() {
		for _, process := range []string{"runtime", "server", "proxy", "proxy"} {
			m.run(t, "maru reload "+process)
		}
		for _, process := range []string{"runtime", "server"} {
			m.run(t, "kill -9 $(systemctl show -P MainPID maru-"+process+")")
			m.eventually(t, process+" comes back", "systemctl is-active maru-"+process)
		}
	})
	m.run(t, "kill -9 $(systemctl show -P MainPID maru-proxy)")
	m.eventually(t, "the proxy comes back", "systemctl is-active maru-proxy")
	if fds := m.run(t, "systemctl show -P NFileDescriptorStore maru-proxy"); fds == "0" {
		t.Error("systemd keeps nothing for the proxy: its certificates would be gone with it")
	}
	m.run(t, smoke)
	m.run(t, "curl -sSfk --resolve shop.localhost:443:127.0.0.1 https://shop.localhost/healthz")
	same(t, m, running)
}

// containers lists the instances' processes, which a restart would change.
const containers = `pgrep -x app | sort -n | tr '\n' ' '`

func same(t *testing.T, m *machine, before string) {
	t.Helper()
	if now := m.run(t, containers); now != before || now == "" {
		t.Errorf("instances were restarted: processes were %s, are %s", before, now)
	}
}

// underLoad asks the gateway all the while; no request may fail.
func (m *machine) underLoad(t *testing.T, do func()) {
	t.Helper()
	reply := m.send(t, `rm -f /tmp/stop; n=0; while [ ! -e /tmp/stop ]; do
		out=$(curl -sS -m 60 -o /dev/null -w '%{http_code}' --resolve shop.localhost:80:127.0.0.1 http://shop.localhost/healthz 2>&1)
		[ "$out" = 200 ] || { echo "request $n: $out"; touch /tmp/lost; }
		n=$((n+1))
	done; echo "$n requests"; [ ! -e /tmp/lost ]`)
	do()
	m.run(t, "touch /tmp/stop")
	select {
	case a := <-reply:
		if a.Code != 0 {
			t.Errorf("requests failed: %s", a.Output)
		}
	case <-time.After(scriptTimeout):
		t.Error("the load does not end")
	}
	m.run(t, "rm -f /tmp/stop /tmp/lost")
}

func upgrade(t *testing.T, m *machine) {
	running := m.run(t, containers)
	m.underLoad(t, func() { m.run(t, "dpkg -i /payload/maru_"+newer+"_amd64.deb") })
	same(t, m, running)
	m.run(t, "maru status --platform | grep -q 'server .*"+newer+"'")
	for _, process := range []string{"runtime", "server", "proxy"} {
		if target := m.run(t, "readlink /proc/$(systemctl show -P MainPID maru-"+process+")/exe"); target != "/usr/bin/maru" {
			t.Errorf("%s runs %s, not the new program", process, target)
		}
	}
	m.run(t, smoke)
}

func reboot(t *testing.T, m *machine) {
	m.reboot(t)
	settled(t, m)
	m.run(t, smoke)
	ordered(t, m, "first")
	if failed := m.run(t, "systemctl --failed --plain --no-legend 'maru*'"); failed != "" {
		t.Errorf("units failed: %s", failed)
	}
}

// powerCuts take the power at several moments of a deploy. What was acknowledged before is there
// afterwards, and a deploy brings the app into the wanted state again.
func powerCuts(t *testing.T, m *machine) {
	for i, after := range []time.Duration{2 * time.Second, 15 * time.Second, 40 * time.Second} {
		name := fmt.Sprintf("cut%d", i)
		order(t, m, name)
		tag := fmt.Sprint(2 - i%2)
		m.send(t, fmt.Sprintf(deploy, tag))
		time.Sleep(after)
		m.cut()
		m.on(t)
		settled(t, m)
		m.run(t, smoke)
		for earlier := range i + 1 {
			ordered(t, m, fmt.Sprintf("cut%d", earlier))
		}
		ordered(t, m, "first")
		m.run(t, fmt.Sprintf(deploy, tag))
		m.run(t, smoke)
		m.eventually(t, "one process for each wanted instance", `test "$(pgrep -cx app)" = 9 && test "$(pgrep -fc containerd-shim-maru)" = 9`)
		m.eventually(t, "no interface too many", `test "$(ip -o link show type veth | wc -l)" = 9`)
		m.run(t, "! dmesg | grep -i 'EXT4-fs error'")
	}
}

// footprint lists all that Maru may leave on a machine.
const footprint = `ip -o link | awk '{print $2}'; ip -4 route show table all; ip -6 route show table all | grep -v 'expires\|^fe80\|^multicast\|^fec0'; ip rule; ip -6 rule
	nft list ruleset; ls /sys/fs/cgroup | grep -v '\.'
	awk '{print $5}' /proc/self/mountinfo | grep maru || true; ip netns list
	ps -e -o comm= | grep -x 'maru\|app\|containerd-shim.*\|runc' || true
	getent passwd maru-proxy || true
	find /etc /usr /var/lib /run -xdev -name '*maru*' -not -path '/etc/hostname' -not -path '/run/udev/*' -not -path '/dev/*' -not -path '/var/lib/systemd/*' | sort`

func remove(t *testing.T, m *machine, before string) {
	m.run(t, "dpkg -r maru")
	if left := m.run(t, containers); left != "" {
		t.Errorf("instances run on without Maru: %s", left)
	}
	m.run(t, "test -d /var/lib/maru/volumes")
	m.run(t, "dpkg -P maru")
	unchanged(t, m, before)
}

func unchanged(t *testing.T, m *machine, before string) {
	t.Helper()
	if after := m.run(t, footprint); after != before {
		t.Errorf("something is left over. Before:\n%s\n\nafter:\n%s", before, after)
	}
}

// archive installs from the archive, deploys, and takes everything out again.
func archive(t *testing.T, m *machine, before string) {
	m.run(t, "cd /root && tar -xzf /payload/maru-"+newer+"-linux-amd64.tar.gz && maru-"+newer+"-linux-amd64/install.sh")
	m.run(t, "systemctl is-active maru-runtime maru-server maru-proxy")
	m.run(t, "maru image load /payload/images.tar")
	m.run(t, fmt.Sprintf(deploy, "1"))
	m.run(t, smoke)
	m.run(t, "/root/maru-"+newer+"-linux-amd64/install.sh uninstall")
	m.run(t, "rm -rf --one-file-system /var/lib/maru; userdel maru-proxy")
	unchanged(t, m, before)
}
