package bin_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/marucloud/maru/engine/local/bin"
)

// TestPreparedFilters holds that runc does not compile the filters that containers have by default, and
// that it does so with others.
func TestPreparedFilters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	programs, err := bin.Install(t.TempDir())
	if err != nil || !programs.Seccomp {
		t.Skip("built without filters: ", err)
	}
	for _, c := range []struct {
		capabilities []string
		compiled     bool
	}{
		{nil, false},
		{[]string{"CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_KILL"}, false},
		{[]string{"CAP_SYS_ADMIN"}, true},
	} {
		log := runDebugging(t, programs.Runc, c.capabilities)
		if compiled := strings.Contains(log, "-ENOSYS stub"); compiled != c.compiled || !strings.Contains(log, "seccomp filter flags") {
			t.Errorf("capabilities %v: compiled %t:\n%s", c.capabilities, compiled, log)
		}
	}
}

// runDebugging runs a container whose program can't be executed, and gives runc's log up to then.
func runDebugging(t *testing.T, runc string, capabilities []string) string {
	t.Helper()
	bundle := t.TempDir()
	spec := &specs.Spec{
		Version: specs.Version, Root: &specs.Root{Path: "root"},
		Process: &specs.Process{
			Args: []string{"/bad"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: capabilities},
		},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{
			CgroupsPath: "/marufilters" + filepath.Base(bundle),
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
		},
	}
	spec.Linux.Seccomp = profile.DefaultProfile(spec)
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(bundle, "root", "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "root", "bad"), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(bundle, "log")
	cmd := exec.Command(runc, "--debug", "--log", file, "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, "filters")
	if err := cmd.Run(); err == nil {
		t.Fatal("it ran what is no program")
	}
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}
