package endtoend

import (
	"strings"
	"testing"
)

const hardenedStack = `
name: hardened
services:
  cache:
    image: redis:7
    command: ["redis-server", "--save", ""]
    read_only: true
    cap_drop: [ALL]
    cap_add: [CHOWN, SETUID, SETGID, SETPCAP]
    ports: ["127.0.0.1:16379:6379"]
    volumes: [data:/data]
  nginx:
    image: nginx:1.22
    read_only: true
    cap_drop: [ALL]
    cap_add: [CHOWN, SETUID, SETGID, DAC_OVERRIDE]
    tmpfs: [/run, /var/lib/nginx, /tmp]
    configs:
      - source: site
        target: /etc/nginx/conf.d/default.conf
    x-maru: {route: hardened.localhost}
volumes:
  data:
configs:
  site:
    content: |
      server {
        listen 80;
        location / { return 200 "fine"; }
      }
`

func TestImagesHardenedFurther(t *testing.T) {
	m := startWithRegistry(t)
	m.deploy(t, hardenedStack)
	if got := redis(t, "SET greeting hello"); got != "+OK" {
		t.Errorf("SET answers %s", got)
	}
	for _, service := range []string{"cache", "nginx"} {
		if users := strings.Fields(m.maru(t, "exec", "--app", "hardened", "-T", service, "cat", "/proc/self/uid_map")); len(users) != 3 || users[1] == "0" {
			t.Errorf("%s has the host's users: %v", service, users)
		}
	}
	if code, body := m.get(t, "hardened.localhost", "/"); code != 200 || body != "fine" {
		t.Errorf("nginx answers %d %q", code, body)
	}
}
