package mesh

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs f in a network namespace of its own, which ends with it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		f()
	}()
	<-done
}

func command(t *testing.T, name string, args ...string) bool {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput() // on this thread, in its namespace
	if err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
	return err == nil
}

// TestOriginal leads connections by nftables, as the engine does, and asks where they were going.
func TestOriginal(t *testing.T) {
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	inNamespace(t, func() {
		if !command(t, "ip", "link", "set", "lo", "up") ||
			!command(t, "ip", "route", "add", "local", "10.211.0.0/16", "dev", "lo") ||
			!command(t, "ip", "-6", "route", "add", "local", "fd6d:2::/64", "dev", "lo") ||
			!command(t, "nft", `add table inet t; add chain inet t out { type nat hook output priority -100; };
				add rule inet t out ip daddr 10.211.0.0/16 tcp dport 80 dnat ip to 127.0.0.1:15001;
				add rule inet t out ip6 daddr fd6d:2::/64 tcp dport 80 dnat ip6 to [::1]:15001`) {
			return
		}
		for _, c := range []struct{ listen, dial, want string }{
			{"127.0.0.1:15001", "10.211.3.4:80", "10.211.3.4:80"},
			{"[::1]:15001", "[fd6d:2::34]:80", "[fd6d:2::34]:80"},
			{"127.0.0.1:15001", "127.0.0.1:15001", "127.0.0.1:15001"}, // not led
		} {
			l, err := net.Listen("tcp", c.listen)
			if err != nil {
				t.Error(err)
				return
			}
			out, err := net.Dial("tcp", c.dial)
			if err != nil {
				t.Error(err)
				l.Close()
				return
			}
			in, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			got, err := Original(in)
			if err != nil || got != netip.MustParseAddrPort(c.want) {
				t.Errorf("%s: %v %v", c.dial, got, err)
			}
			for _, open := range []interface{ Close() error }{in, out, l} {
				open.Close()
			}
		}
	})
}

func FuzzSockaddr(f *testing.F) {
	v4 := make([]byte, 16)
	binary.NativeEndian.PutUint16(v4, unix.AF_INET)
	v6 := make([]byte, 28)
	binary.NativeEndian.PutUint16(v6, unix.AF_INET6)
	f.Add(v4)
	f.Add(v6)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeSockaddr(data)
		if err == nil && (!a.Addr().IsValid() || a.Addr().Is4In6()) {
			t.Fatal(a)
		}
	})
}
