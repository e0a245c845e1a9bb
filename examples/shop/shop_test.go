package shop_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// shop is all services as processes of this machine.
type shop struct {
	bin, data, secrets string
	ports              map[string]string
	running            map[string]*exec.Cmd
}

func startShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{bin: filepath.Join(dir, "bin"), data: filepath.Join(dir, "data"), secrets: dir,
		ports: map[string]string{}, running: map[string]*exec.Cmd{}}
	if err := os.WriteFile(filepath.Join(dir, "payments_key"), []byte("k\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", s.bin+"/", "./...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, name := range []string{"store", "payments", "catalog", "orders", "worker", "web"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, s.ports[name], _ = net.SplitHostPort(l.Addr().String())
		l.Close()
	}
	s.start(t, "store")
	if out, err := s.command("orders", "migrate").CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	for _, name := range []string{"payments", "catalog", "orders", "worker", "web"} {
		s.start(t, name)
	}
	return s
}

func (s *shop) url(name string) string { return "http://127.0.0.1:" + s.ports[name] }

func (s *shop) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Env = append(os.Environ(), "PORT="+s.ports[name], "DATA_DIR="+s.data, "SECRETS_DIR="+s.secrets)
	for _, other := range []string{"store", "payments", "catalog", "orders"} {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s_URL=%s", map[string]string{
			"store": "STORE", "payments": "PAYMENTS", "catalog": "CATALOG", "orders": "ORDERS"}[other], s.url(other)))
	}
	return cmd
}

func (s *shop) start(t *testing.T, name string) {
	t.Helper()
	cmd := s.command(name)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.running[name] = cmd
	t.Cleanup(func() {
		if s.running[name] == cmd {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(s.url(name) + "/healthz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not healthy: %v", name, err)
		}
	}
}

func (s *shop) end(t *testing.T, name string, signal syscall.Signal) error {
	t.Helper()
	cmd := s.running[name]
	delete(s.running, name)
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return cmd.Wait()
}

func (s *shop) smoke(t *testing.T) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "smoke"), "-url", s.url("web"), "-wait", "40s")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// TestShop visits the shop, also after the store was killed in the middle of things.
func TestShop(t *testing.T) {
	s := startShop(t)
	s.smoke(t)
	if err := s.end(t, "store", syscall.SIGKILL); err == nil {
		t.Error("the store survived")
	}
	s.start(t, "store")
	s.smoke(t)
	for name := range s.ports {
		start := time.Now()
		if err := s.end(t, name, syscall.SIGTERM); err != nil {
			t.Errorf("%s did not stop cleanly: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v to stop", name, took)
		}
	}
}
