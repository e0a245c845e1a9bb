//go:build vm

package vm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestMaru goes through the life of an installation. Each part stands on those before. MARU_VM_CUTS (6)
// is how often the power goes, MARU_VM_SEED decides when, and what is lost.
func TestMaru(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("MARU_VM_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("MARU_VM_SEED=%d", seed)
	base, payload := prepare(t)
	m := newMachine(t, base, payload, rand.New(rand.NewPCG(seed, 1)))
	m.step(t, "the packages and the disk are made; power on")
	m.on(t)
	m.step(t, "booted")
	before := m.run(t, footprint)
	for _, part := range []struct {
		name string
		do   func(*testing.T, *machine)
	}{
		{"install", install},
		{"deploy", deployShop},
		{"connections", connections},
		{"restart", restartProcesses},
		{"reboot", reboot},
		{"power cut after an image", powerCutAfterImage},
		{"power cuts", powerCuts},
		{"upgrade", upgrade},
		{"limits", limits},
		{"published port", publishedPort},
		{"builder", builder},
		{"remove", func(t *testing.T, m *machine) { remove(t, m, before) }},
		{"archive", func(t *testing.T, m *machine) { archive(t, m, before) }},
	} {
		if !t.Run(part.name, func(t *testing.T) { defer log(t, m); part.do(t, m) }) {
			return
		}
	}
	m.step(t, "power off")
}

// log shows what is when the part failed.
func log(t *testing.T, m *machine) {
	if !t.Failed() {
		return
	}
	_, output := m.try(t, "maru status --platform; maru ps --all; maru status --app shop; journalctl -b --no-pager -o short-monotonic -u 'maru-*' | tail -n 120")
	t.Log(output)
}

const (
	deploy = "cd /root/shop && TAG=%s maru deploy -f compose.yaml -f prebuilt.yaml"
	smoke  = "/payload/smoke -url http://shop.localhost -wait 8m -quiet"
	shop   = "curl -sSf -m 60 --resolve shop.localhost:80:127.0.0.1 -H 'Accept: application/json' http://shop.localhost"

	// Of the shop's instances.
	containers = `pgrep -x app | sort -n | tr '\n' ' '`
	releases   = `for p in $(pgrep -x app); do tr '\0' '\n' </proc/$p/environ | sed -n 's/^RELEASE=//p'; done | sort | uniq -c | xargs`
	wanted     = 9
)

func deployShop(t *testing.T, m *machine) {
	m.run(t, "mkdir -p /root/shop && cd /payload && cp compose.yaml prebuilt.yaml payments_key.txt /root/shop/")
	m.step(t, "load the images")
	m.run(t, "maru image load /payload/images.tar")
	m.step(t, "deploy the shop")
	m.run(t, fmt.Sprintf(deploy, "1"))
	m.run(t, smoke)
	runs(t, m, "1")
	order(t, m, "first")
	clean(t, m)
}

// order places an order and keeps its number in a file of that name.
func order(t *testing.T, m *machine, name string) {
	t.Helper()
	m.run(t, fmt.Sprintf(place, name))
	ordered(t, m, name)
}

// place is a script that succeeds when an order was taken for good.
const place = `set -eo pipefail; name=%s
	` + shop + `/orders -d customer=$name -d q-sejak=1 | jq -er .id >/root/order-$name
	sync /root/order-$name /root`

// ordered checks that the order is still known.
func ordered(t *testing.T, m *machine, name string) {
	t.Helper()
	m.eventually(t, "the order "+name, shop+`/orders/$(cat /root/order-`+name+`) | grep -q `+name)
}

// settled waits until every instance of the shop is ready and no rollout is under way.
func settled(t *testing.T, m *machine) {
	t.Helper()
	m.eventually(t, "the shop runs", `maru status --app shop | grep '^shop in production: running'`)
}

// runs waits until the wanted instances, and no others, run one of the releases.
func runs(t *testing.T, m *machine, allowed ...string) {
	t.Helper()
	wait(t, scriptTimeout, "the wanted instances run", func() error {
		now := m.run(t, releases)
		for _, release := range allowed {
			if now == fmt.Sprint(wanted, " ", release) {
				return nil
			}
		}
		return fmt.Errorf("numbers of instances by release: %s; wanted: %d of release %v", now, wanted, allowed)
	})
}

// clean waits until nothing is left over of what is gone.
func clean(t *testing.T, m *machine) {
	t.Helper()
	m.eventually(t, "nothing is left over", "/payload/leftovers")
}

// same checks that no instance was started again.
func same(t *testing.T, m *machine, before string) {
	t.Helper()
	if now := m.run(t, containers); now != before || now == "" {
		t.Errorf("instances were restarted: processes were %s, are %s", before, now)
	}
}

// underLoad asks an address all the while; no request may fail.
func (m *machine) underLoad(t *testing.T, url string, do func()) {
	t.Helper()
	reply := m.send(t, `rm -f /tmp/stop /tmp/lost; n=0; while [ ! -e /tmp/stop ]; do
		out=$(curl -sS -m 60 -o /dev/null -w '%{http_code}' --resolve shop.localhost:80:127.0.0.1 `+url+` 2>&1)
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
}

// restartProcesses replaces each process, in good order and by force, under load.
func restartProcesses(t *testing.T, m *machine) {
	running := m.run(t, containers)
	m.underLoad(t, "http://shop.localhost/healthz", func() {
		for _, process := range []string{"runtime", "server", "proxy", "proxy"} {
			m.step(t, "reload %s", process)
			m.run(t, "maru reload "+process)
		}
		for _, process := range []string{"runtime", "server"} {
			m.step(t, "kill %s", process)
			m.run(t, "kill -9 $(systemctl show -P MainPID maru-"+process+")")
			m.eventually(t, process+" comes back", "systemctl is-active maru-"+process)
		}
	})
	m.step(t, "kill proxy")
	m.run(t, "kill -9 $(systemctl show -P MainPID maru-proxy)")
	m.eventually(t, "the proxy comes back", "systemctl is-active maru-proxy")
	if fds := m.run(t, "systemctl show -P NFileDescriptorStore maru-proxy"); fds == "0" {
		t.Error("systemd keeps nothing for the proxy: its certificates would be gone with it")
	}
	m.run(t, smoke)
	m.run(t, "curl -sSfk --resolve shop.localhost:443:127.0.0.1 https://shop.localhost/healthz")
	same(t, m, running)
	clean(t, m)
}

func reboot(t *testing.T, m *machine) {
	m.step(t, "reboot")
	m.reboot(t)
	m.step(t, "booted")
	settled(t, m)
	m.run(t, smoke)
	runs(t, m, "1")
	ordered(t, m, "first")
	clean(t, m)
	if failed := m.run(t, "systemctl list-units --failed --plain --no-legend 'maru*'"); failed != "" {
		t.Errorf("units failed: %s", failed)
	}
}
