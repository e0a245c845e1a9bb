//go:build vm

package vm

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// hungry has a service whose limits are small.
const hungry = `name: hungry
services:
  hog:
    image: example.test/service:1
    pids_limit: 40
    mem_limit: 96m
    cpus: 0.5
    ports: ["8099:8080"]
    x-maru: {health: /healthz}
`

// eater is not started again when it has ended, so that its status still says why.
const eater = `name: eater
services:
  eater:
    image: example.test/service:1
    mem_limit: 64m
    restart: "no"
    ports: ["8098:8080"]
    x-maru: {health: /healthz}
`

// limits tries the limits of instances on cgroup version 2.
func limits(t *testing.T, m *machine) {
	const group = `cd /sys/fs/cgroup/maru/instances/*$(maru status --app hungry -o json | jq -er '.services[] | select(.name == "hog").instances[0].id')*; `

	for file, want := range map[string]string{"pids.max": "40", "memory.max": "100663296", "cpu.max": "50000 100000"} {
		if got := m.run(t, group+"cat "+file); got != want {
			t.Errorf("%s is %s, not %s", file, got, want)
		}
	}
	m.step(t, "spin")
	m.run(t, "curl -sSf -X POST 'http://127.0.0.1:8099/spin?threads=4&for=5s'")
	m.eventually(t, "the processor's limit holds", group+"awk '/^nr_throttled/ {exit $2 == 0}' cpu.stat")
	m.step(t, "multiply")
	m.try(t, "curl -sS -m 60 -X POST 'http://127.0.0.1:8099/multiply?for=10s'")
	m.eventually(t, "the limit of processes holds", group+"awk '/^max/ {exit $2 == 0}' pids.events; test $(cat pids.current) -le 40")
	m.step(t, "eat")
	m.run(t, "mkdir -p /root/eater && cd /root/eater && cat >compose.yaml <<'END'\n"+eater+"END\nmaru deploy")
	m.try(t, "curl -sS -m 60 -X POST 'http://127.0.0.1:8098/eat?mb=200'")
	m.eventually(t, "the status says why", "maru status --app eater | grep 'was killed for going over its memory limit of 64 MiB'")
	m.eventually(t, "the neighbour serves", shop+"/healthz")
}

// connections holds as many idle connections as a machine can be made to, with the limits that systemd sets.
func connections(t *testing.T, m *machine) {
	const most = 12 << 10 // bytes for each
	m.step(t, "hold 20,000 connections")
	got := m.run(t, "ulimit -n 21000; /payload/idle $(systemctl show -P MainPID maru-proxy) 127.0.0.1:80 shop.localhost 20000")
	if bytes, err := strconv.Atoi(got); err != nil || bytes > most {
		t.Errorf("a connection takes %s bytes of the proxy's memory, and should take %d at most", got, most)
	}
	m.step(t, "%s bytes for each", got)
}

// publishedPort asks a port of the host while the process that holds it is replaced.
func publishedPort(t *testing.T, m *machine) {
	const ask = "curl -sSf -m 120 http://127.0.0.1:8099/healthz"
	m.eventually(t, "the port answers", ask)
	m.underLoad(t, "http://127.0.0.1:8099/healthz", func() {
		m.step(t, "reload proxy")
		m.run(t, "maru reload proxy")
	})
	m.step(t, "kill proxy, and ask at once")
	m.run(t, "kill -9 $(systemctl show -P MainPID maru-proxy); "+ask)
	m.step(t, "restart proxy by systemctl")
	m.run(t, "systemctl restart maru-proxy")
	m.eventually(t, "the port answers", ask)
}

// dockerfile runs its program at build time, and says where.
const dockerfile = `FROM scratch
COPY service /service
RUN ["/service", "read", "/proc/self/status"]
EXPOSE 8080
ENTRYPOINT ["/service"]
`

// builder starts on demand, has its budget, and ends by itself when it is idle.
func builder(t *testing.T, m *machine) {
	if state := m.run(t, "systemctl is-active maru-builder.service || true"); state != "inactive" {
		t.Errorf("the builder is %s before there was a build", state)
	}
	m.run(t, "mkdir -p /root/built && cd /root/built && cp /payload/service . && cat >Dockerfile <<'END'\n"+dockerfile+"END\n"+
		`printf 'name: built\nservices:\n  it:\n    build: .\n    x-maru: {route: built.localhost, health: /healthz}\n' >compose.yaml`)
	build := func(what string) {
		t.Helper()
		m.step(t, "%s", what)
		m.run(t, "cd /root/built && date >>service && maru deploy && curl -sSf -m 60 --resolve built.localhost:80:127.0.0.1 http://built.localhost/")
		m.run(t, "systemctl is-active maru-builder.service")
		m.run(t, "maru status --platform | grep 'builder .*running'")
	}
	build("build an image")
	if group := m.run(t, "cat /proc/$(systemctl show -P MainPID maru-builder)/cgroup"); !strings.HasPrefix(group, "0::/maru/builder/") {
		t.Errorf("the builder's cgroup is %s", group)
	}
	m.run(t, `cd /sys/fs/cgroup/maru/builder; test "$(cat cpu.weight)" = 10
		half=$(awk '/^MemTotal/ {print $2 * 512}' /proc/meminfo); max=$(cat memory.max)
		test "$max" -gt $((half - 1048576)) -a "$max" -lt $((half + 1048576))`)
	m.step(t, "wait until the builder ends by itself")
	m.eventually(t, "the idle builder ends", `test "$(systemctl is-active maru-builder.service)" = inactive`)
	if result := m.run(t, "systemctl show -P Result maru-builder.service; systemctl show -P NRestarts maru-builder.service"); result != "success\n0" {
		t.Errorf("the builder ended with %s", result)
	}
	m.run(t, "maru status --platform | grep 'builder .*idle'")
	m.run(t, "test -z \"$(find /sys/fs/cgroup/maru/builder -mindepth 2 -name cgroup.procs -exec cat {} +)\"")
	build("build again")
	if left := m.run(t, fmt.Sprint(containers)); left == "" {
		t.Error("the shop is gone")
	}
}
