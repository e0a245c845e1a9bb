package network

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
)

// ownedTable makes a table that only the returned process can change, as firewalld does.
func ownedTable(t testing.TB, name string) {
	t.Helper()
	cmd := exec.Command("nft", "-i")
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		check(t, in.Close())
		_ = cmd.Wait()
	})
	for _, line := range []string{
		"add table inet " + name + " { flags owner; }",
		"add chain inet " + name + " filter_FORWARD { type filter hook forward priority filter + 10; policy accept; }",
		"add chain inet " + name + " filter_INPUT { type filter hook input priority filter + 10; policy accept; }",
		"add rule inet " + name + " filter_FORWARD ip saddr 10.210.0.0/16 accept", // as firewalld will
		"add rule inet " + name + " filter_FORWARD ct state established,related accept",
		"add rule inet " + name + " filter_FORWARD meta nfproto ipv4 reject",
		"add rule inet " + name + " filter_INPUT ct state established,related accept",
	} {
		_, err := fmt.Fprintln(in, line)
		check(t, err)
	}
	_, err = fmt.Fprintln(in, "list tables")
	check(t, err)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "table inet "+name) {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
	}
	t.Fatal("nft made no table")
}

// fakeFirewalld is what of firewalld is on the bus.
type fakeFirewalld struct {
	mu      sync.Mutex
	sources []string
}

func (f *fakeFirewalld) QuerySource(zone, source string) (bool, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.sources, zone+" "+source), nil
}

func (f *fakeFirewalld) AddSource(zone, source string) (string, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.sources, zone+" "+source) {
		return "", dbus.NewError("org.fedoraproject.FirewallD1.Exception", []any{"ALREADY_ENABLED"})
	}
	f.sources = append(f.sources, zone+" "+source)
	return zone, nil
}

func (f *fakeFirewalld) RemoveSource(zone, source string) (string, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources = slices.DeleteFunc(f.sources, func(s string) bool { return s == zone+" "+source })
	return zone, nil
}

func (f *fakeFirewalld) now() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.sources, ", ")
}

// systemBus starts a bus that the code under test takes for the system's.
func systemBus(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "bus")
	config := filepath.Join(dir, "config")
	check(t, os.WriteFile(config, []byte(`<busconfig><type>system</type><listen>unix:path=`+socket+`</listen>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600))
	cmd := exec.Command("dbus-daemon", "--nofork", "--print-address", "--config-file="+config)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		check(t, cmd.Process.Kill())
		_ = cmd.Wait()
	})
	_, err = bufio.NewReader(out).ReadString('\n')
	check(t, err)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
}

func TestFirewalldThatOwnsItsTable(t *testing.T) {
	needRoot(t)
	systemBus(t)
	bus, err := dbus.ConnectSystemBus()
	check(t, err)
	defer bus.Close()
	f := &fakeFirewalld{}
	check(t, bus.ExportWithMap(f, map[string]string{"QuerySource": "querySource", "AddSource": "addSource", "RemoveSource": "removeSource"}, firewalldPath, firewalldName+".zone"))
	if _, err := bus.RequestName(firewalldName, 0); err != nil {
		t.Fatal(err)
	}
	h := newMachine(t)
	ownedTable(t, firewalldTable)
	h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
	check(t, h.Setup(t.Context()))
	const want = "trusted 10.210.0.0/16, trusted fd6d:6172:7500:1::/64"
	if got := f.now(); got != want {
		t.Errorf("firewalld trusts %q", got)
	}
	f.mu.Lock()
	f.sources = nil // it was reloaded
	f.mu.Unlock()
	h.recheck(t.Context())
	h.recheck(t.Context())
	if got := f.now(); got != want {
		t.Errorf("after a reload firewalld trusts %q", got)
	}
	f.mu.Lock()
	f.sources = append(f.sources, "trusted 10.0.0.0/8") // by somebody else
	f.mu.Unlock()
	check(t, h.Teardown(t.Context()))
	if got := f.now(); got != "trusted 10.0.0.0/8" {
		t.Errorf("at the end firewalld trusts %q", got)
	}
	check(t, writeSysctl("ipv6/conf/all/forwarding", "0"))
	check(t, writeSysctl("ipv4/ip_forward", "0"))
}

// Nothing that another firewall does is a reason not to start.
func TestFirewallThatCannotBeChanged(t *testing.T) {
	h := newMachine(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
	ownedTable(t, firewalldTable)
	ownedTable(t, "another")
	h.Network = newNetwork(t, Config{RunDir: t.TempDir()})
	check(t, h.Setup(t.Context()))
	if err := h.Teardown(t.Context()); err != nil {
		t.Error(err)
	}
	check(t, writeSysctl("ipv6/conf/all/forwarding", "0"))
	check(t, writeSysctl("ipv4/ip_forward", "0"))
}
