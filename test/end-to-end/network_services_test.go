package endtoend

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const networked = `
name: net
services:
  web:
    image: example.test/service:1
    environment: {TCP: ":9000", UDP: ":9001"}
    expose: ["8080"]
    ports: ["127.0.0.1:17000:9000", "127.0.0.1:17001:9001/udp"]
    networks: [front, back]
    x-maru: {route: net.localhost, health: /healthz}
  db:
    image: example.test/service:1
    environment: {TCP: ":9000"}
    expose: ["9000", "8080"]
    deploy: {replicas: 2}
    networks: [back]
    x-maru: {protocol: {"9000": tcp}, route: db.localhost/}
  store:
    image: example.test/service:1
    environment: {TCP: ":9000"}
    expose: ["8080"]
    deploy: {replicas: 2, endpoint_mode: dnsrr}
    networks: [front]
networks:
  front:
  back: {internal: true}
`

func TestNetworksAndPorts(t *testing.T) {
	giveHost(t, "out0", "192.0.2.8/24")
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, networked)
	ask := func(host, network, address string) (int, string) {
		return m.get(t, host, "/ask?say=hello&network="+network+"&address="+url.QueryEscape(address))
	}
	t.Run("networks are reachability", func(t *testing.T) {
		if code, body := ask("net.localhost", "tcp", "db:9000"); code != 200 || !strings.HasSuffix(body, "hello") {
			t.Errorf("web asks db: %d %s", code, body)
		}
		store := m.status(t, "net").Of("store").Instances[0].AddressV4
		if code, body := m.get(t, "db.localhost", "/resolve?name=store"); code == 200 {
			t.Errorf("db resolves store, with which it shares no network: %s", body)
		}
		if code, body := m.get(t, "db.localhost", "/dial?address="+store+":8080"); code == 200 {
			t.Errorf("db reaches store at %s: %s", store, body)
		}
		if code, body := m.get(t, "net.localhost", "/dial?address="+store+":8080"); code != 200 {
			t.Errorf("web does not reach store at %s: %s", store, body)
		}
	})
	t.Run("dnsrr", func(t *testing.T) {
		found := object[[]string](t, m, "net.localhost", "/resolve?name=store")
		for _, one := range m.status(t, "net").Of("store").Instances {
			if !strings.Contains(fmt.Sprint(found), one.AddressV4) {
				t.Errorf("%s is not among %v", one.AddressV4, found)
			}
		}
	})
	t.Run("published ports", func(t *testing.T) {
		for network, address := range map[string]string{"tcp": "127.0.0.1:17000", "udp": "127.0.0.1:17001"} {
			if answer := converse(t, network, address); !strings.HasSuffix(answer, "hello") {
				t.Errorf("%s over %s answers %q", address, network, answer)
			}
		}
	})
	t.Run("kernel balancing outlives the proxy", func(t *testing.T) {
		seen := map[string]bool{}
		for range 40 {
			_, body := ask("net.localhost", "tcp", "db:9000")
			seen[body] = true
		}
		if len(seen) != 2 {
			t.Errorf("of two instances answer %v", seen)
		}
		if code, body := m.do(t, "POST", "net.localhost", "/keep?as=session&address=db:9000"); code != 200 {
			t.Fatalf("open a connection: %d %s", code, body)
		}
		_, first := m.get(t, "net.localhost", "/kept?as=session&say=before")
		m.killProxy(t)
		eventually(t, "the gateway answers again", func() bool {
			code, _ := m.get(t, "net.localhost", "/healthz")
			return code == 200
		})
		code, second := m.get(t, "net.localhost", "/kept?as=session&say=after")
		if code != 200 || strings.Fields(first)[0] != strings.Fields(second)[0] {
			t.Errorf("the connection after the proxy was killed: %d %q, before %q", code, second, first)
		}
	})
}

func converse(t *testing.T, network, address string) string {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello")
	if network == "tcp" {
		fmt.Fprintln(conn)
	}
	buffer := make([]byte, 200)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Errorf("%s over %s: %v", address, network, err)
	}
	return strings.TrimSpace(string(buffer[:n]))
}

// killProxy ends the proxy of this installation with SIGKILL.
func (m *machine) killProxy(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), "\x00proxy\x00") || !strings.Contains(string(line), m.Layout.Run) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no proxy runs")
}

func TestBackupAndRestore(t *testing.T) {
	t.Setenv("MARU_PASSPHRASE", "correct horse battery staple")
	file := filepath.Join(t.TempDir(), "maru.backup")
	old := start(t)
	old.LoadImage(t)
	old.maru(t, "secret", "set", "given", "--app", "keeper", "--from", writeFile(t, "hidden"))
	compose := strings.ReplaceAll(keeper, "VALUE", "one")
	compose = strings.Replace(compose, "    volumes:", "    secrets: [given]\n    volumes:", 1) + "secrets:\n  given: {external: true}\n"
	old.deploy(t, compose)
	if code, body := old.do(t, "PUT", "keeper.localhost", "/file?path=/data/mine"); code != 200 {
		t.Fatalf("write: %d %s", code, body)
	}
	old.maru(t, "backup", file)
	old.maru(t, "rm", "--app", "keeper", "--volumes", "--yes")
	if err := old.Purge(); err != nil {
		t.Fatal(err)
	}

	fresh := start(t)
	fresh.LoadImage(t)
	fresh.maru(t, "restore", file)
	eventually(t, "the restored app serves", func() bool {
		code, _ := fresh.get(t, "keeper.localhost", "/healthz")
		return code == 200
	})
	if code, body := fresh.get(t, "keeper.localhost", "/file?path=/data/mine"); code != 200 {
		t.Errorf("the volume's file: %d %s", code, body)
	}
	if _, body := fresh.get(t, "keeper.localhost", "/file?path=/run/secrets/given"); body != "hidden" {
		t.Errorf("the secret is %q", body)
	}
}

func TestTokenOverTLS(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(web, "VALUE", "one"))
	var made struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(m.maru(t, "token", "create", "ci", "--role", "deploy", "--app", "site", "-o", "json")), &made); err != nil {
		t.Fatal(err)
	}
	m.maru(t, "context", "add", "remote", "--url", "https://"+m.API, "--token", made.Secret, "--authority", m.authority(t))
	if out := m.maru(t, "status", "--context", "remote", "--app", "site"); !strings.Contains(out, "running") {
		t.Errorf("status over TLS: %s", out)
	}
	for _, denied := range [][]string{{"status", "--app", "other"}, {"token", "ls"}, {"grant", "privileged"}} {
		if out, _, code := m.try(t, append(denied, "--context", "remote")...); code == 0 {
			t.Errorf("a token for one app may %v: %s", denied, out)
		}
	}
	m.maru(t, "context", "add", "wrong", "--url", "https://"+m.API, "--token", made.Secret+"x", "--authority", m.authority(t))
	if out, _, code := m.try(t, "status", "--context", "wrong", "--app", "site"); code == 0 {
		t.Errorf("a wrong token is taken: %s", out)
	}
	m.maru(t, "token", "revoke", "ci")
	if out, _, code := m.try(t, "status", "--context", "remote", "--app", "site"); code == 0 {
		t.Errorf("a revoked token is taken: %s", out)
	}
}

// authority gives a file with the certificate that the API's is signed by.
func (m *machine) authority(t *testing.T) string {
	t.Helper()
	return writeFile(t, m.maru(t, "trust", "--print"))
}
