package endtoend

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const files = `
name: files
services:
  web:
    image: example.test/service:1
    user: "1000:1001"
    group_add: ["1002"]
    working_dir: /tmp
    hostname: chosen
    read_only: true
    tmpfs: ["/scratch:size=1m,mode=1777"]
    ulimits: {nofile: {soft: 512, hard: 1024}}
    sysctls: {net.core.somaxconn: "77"}
    extra_hosts: ["elsewhere:192.0.2.1"]
    environment: {VERSION: "${WHAT:-unset}"}
    configs:
      - {source: plain, target: /etc/plain.conf, uid: "1000", gid: "1001", mode: 0440}
    secrets:
      - given
      - {source: given, target: /run/secrets/other, uid: "1000", mode: 0400}
    x-maru: {route: files.localhost, health: /healthz}
configs:
  plain: {content: "plain text"}
secrets:
  given: {external: true}
`

func TestComposeFilesAndSettings(t *testing.T) {
	const secret = "b7f1-very-hidden-c0de"
	m := start(t)
	m.LoadImage(t)
	if _, errors, code := m.try(t, "deploy", "-f", writeCompose(t, files)); code == 0 || !strings.Contains(errors, "given") {
		t.Errorf("a deploy without its secret ends with %d: %s", code, errors)
	}
	m.maru(t, "secret", "set", "given", "--app", "files", "--from", writeFile(t, secret))
	m.maru(t, "env", "set", "WHAT=from-env", "--app", "files")
	m.deploy(t, files)
	for path, want := range map[string]string{
		"/etc/plain.conf": "plain text", "/run/secrets/given": secret, "/run/secrets/other": secret,
		"/proc/sys/net/core/somaxconn": "77\n",
	} {
		if code, body := m.get(t, "files.localhost", "/file?path="+path); code != 200 || body != want {
			t.Errorf("%s: %d %q, not %q", path, code, body, want)
		}
	}
	id := object[map[string]string](t, m, "files.localhost", "/id")
	for name, want := range map[string]string{
		"uid": "1000", "gid": "1001", "folder": "/tmp", "host": "chosen", "version": "from-env",
	} {
		if id[name] != want {
			t.Errorf("%s is %q, not %q", name, id[name], want)
		}
	}
	if !strings.HasSuffix(id["files"], " 1024") { // Go raises the soft limit
		t.Errorf("the limits of open files are %s", id["files"])
	}
	if !strings.Contains(id["groups"], "1002") {
		t.Errorf("groups are %s", id["groups"])
	}
	if code, body := m.get(t, "files.localhost", "/resolve?name=elsewhere"); code != 200 || !strings.Contains(body, "192.0.2.1") {
		t.Errorf("the extra host resolves to %d %s", code, body)
	}
	if code, _ := m.do(t, "PUT", "files.localhost", "/file?path=/tmp/x"); code == 200 {
		t.Error("a read-only file system was written to")
	}
	if code, body := m.do(t, "PUT", "files.localhost", "/file?path=/scratch/x"); code != 200 {
		t.Errorf("the tmpfs can't be written to: %s", body)
	}
	for _, found := range m.findOnDisk(t, secret) {
		t.Errorf("the secret is in clear in %s", found)
	}
	before := m.who(t, "files.localhost")["instance"]
	m.maru(t, "secret", "set", "given", "--app", "files", "--from", writeFile(t, "second"))
	m.maru(t, "env", "set", "WHAT=changed", "--app", "files")
	m.deploy(t, files)
	if _, body := m.get(t, "files.localhost", "/file?path=/run/secrets/given"); body != "second" {
		t.Errorf("after the next deploy the secret is %q (instance %s before)", body, before)
	}
	if now := m.who(t, "files.localhost"); now["version"] != "changed" {
		t.Errorf("after the next deploy the variable is %q", now["version"])
	}
}

// findOnDisk looks for a text in all files of the installation's data.
func (m *machine) findOnDisk(t *testing.T, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(m.Layout.Data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // what is gone meanwhile holds nothing
		}
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(text)) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestComposeCommands(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(web, "VALUE", "one"))
	for _, code := range []string{"0", "3", "77"} {
		if _, _, got := m.inside(t, "site", "web", "exit", code); code != map[int]string{0: "0", 3: "3", 77: "77"}[got] {
			t.Errorf("exec of exit %s ends with %d", code, got)
		}
	}
	if out, errors, code := m.try(t, "run", "--app", "site", "--set", "VERSION=once", "web", "id"); code != 0 || !strings.Contains(out, `"version":"once"`) {
		t.Errorf("a one-off: %d %s%s", code, out, errors)
	}
	if _, _, code := m.try(t, "run", "--app", "site", "web", "exit", "9"); code != 9 {
		t.Errorf("a one-off that ends with 9 ends with %d", code)
	}
	for _, args := range [][]string{{"exec", "--app", "site", "web", "nowhere"}, {"run", "--app", "site", "--entrypoint", "nowhere", "web"}} {
		if _, errors, code := m.try(t, args...); code != 127 || !strings.Contains(errors, `no program "nowhere"`) || !strings.Contains(errors, "hint: ") {
			t.Errorf("%v: %d %s", args, code, errors)
		}
	}
	m.runAndLeave(t)
	m.do(t, "POST", "site.localhost", "/count?n=5")
	eventually(t, "the lines are logged", func() bool {
		return strings.Contains(m.maru(t, "logs", "--app", "site", "--grep", "line 4", "web"), "line 4")
	})
	if out := m.maru(t, "logs", "--app", "site", "--bare", "-n", "2", "web"); out != "line 3\nline 4\n" {
		t.Errorf("the last two lines: %q", out)
	}
	if out := m.maru(t, "logs", "--app", "site", "--bare", "--grep", "line [13]", "web"); out != "line 1\nline 3\n" {
		t.Errorf("lines by pattern: %q", out)
	}
	instance := m.status(t, "site").Of("web").Instances[0].ID
	if out := m.maru(t, "logs", "--app", "site", "--bare", "--instance", instance, "--release", "1", "--since", "1m"); !strings.Contains(out, "line 0") {
		t.Errorf("lines by instance, release and time: %q", out)
	}
	if out := m.maru(t, "logs", "--app", "site", "--release", "9"); strings.Contains(out, "line") {
		t.Errorf("lines of another release: %q", out)
	}
	for _, args := range [][]string{
		{"status"}, {"ps"}, {"events"}, {"logs"}, {"releases"}, {"top"}, {"secret", "ls"}, {"env", "ls"}, {"config", "ls"}, {"volume", "ls"},
		{"image", "ls"}, {"grant", "ls"}, {"token", "ls"}, {"context", "ls"}, {"version"}, {"env", "set", "X=1"}, {"env", "rm", "X"},
	} {
		out, errors, code := m.try(t, append(args, "--app", "site", "-o", "json")...)
		decoder, valid := json.NewDecoder(strings.NewReader(out)), true
		for decoder.More() && valid {
			var value any
			valid = decoder.Decode(&value) == nil
		}
		if code != 0 || !valid || out == "" && args[0] != "logs" {
			t.Errorf("%v -o json: %d %.300s%s", args, code, out, errors)
		}
	}
}
