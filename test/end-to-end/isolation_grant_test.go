package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const reaching = `
name: reaching
services:
  web:
    image: example.test/service:1
    WHAT
    x-maru: {route: reaching.localhost, health: /healthz}
`

func TestIsolationNeedsGrants(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mine"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what, grant string
		try         []string // works in an instance once it is granted
	}{
		{`volumes: ["` + folder + `:/host:ro"]`, "bind-ro:" + folder, []string{"read", "/host/mine"}},
		{`devices: ["/dev/full:/dev/given"]`, "device:/dev/full", []string{"list", "/dev"}},
		{`cap_add: [NET_RAW]`, "cap:NET_RAW", []string{"try", "raw"}},
		{`network_mode: host`, "hostnet", nil},
		{`privileged: true`, "privileged", []string{"try", "mount"}},
	} {
		compose := writeCompose(t, strings.Replace(reaching, "WHAT", test.what, 1))
		_, errors, code := m.try(t, "deploy", "-f", compose)
		if code == 0 || !strings.Contains(errors, "maru grant "+test.grant) {
			t.Errorf("%s without a grant: %d %s", test.what, code, errors)
			continue
		}
		if test.try == nil {
			continue
		}
		m.maru(t, "grant", test.grant, "--app", "reaching")
		m.maru(t, "deploy", "-f", compose)
		if out, errors, code := m.inside(t, "reaching", "web", test.try...); code != 0 {
			t.Errorf("%s with a grant: %d %s%s", test.what, code, out, errors)
		}
		m.maru(t, "grant", "rm", test.grant, "--app", "reaching")
		if _, _, code := m.try(t, "deploy", "-f", compose, "--force"); code == 0 {
			t.Errorf("%s is deployed though the grant was taken back", test.what)
		}
	}
}
