package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// untilSignal gives a context that ends with a stop signal, which is told on standard output.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1)
	go func() {
		for received := range signals {
			fmt.Println("got", received)
			if os.Getenv("STUBBORN") == "" {
				stop()
			}
		}
	}()
	return ctx, stop
}

// identity tells as who and where the process runs.
func identity() map[string]string {
	host, _ := os.Hostname()
	folder, _ := os.Getwd()
	groups, _ := os.Getgroups()
	var files syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	return map[string]string{
		"uid": strconv.Itoa(os.Getuid()), "gid": strconv.Itoa(os.Getgid()), "groups": fmt.Sprint(groups), "host": host,
		"folder": folder, "pid": strconv.Itoa(os.Getpid()), "files": fmt.Sprintf("%d %d", files.Cur, files.Max),
		"version": os.Getenv("VERSION"), "extra": os.Getenv("EXTRA"),
	}
}

// try does something that isolation should prevent. The exit code is 0 when it was possible.
func try(what string, args []string) int {
	attempts := map[string]func() error{
		"raw":    func() error { return opened(syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)) },
		"packet": func() error { return opened(syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300)) },
		"netlink": func() error {
			return opened(syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_NETFILTER))
		},
		"mount":   func() error { return syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, "") },
		"remount": func() error { return syscall.Mount("", "/proc/sys", "", syscall.MS_REMOUNT|syscall.MS_BIND, "") },
		"unshare": func() error { return syscall.Unshare(syscall.CLONE_NEWUSER) },
		"netns":   func() error { return syscall.Unshare(syscall.CLONE_NEWNET) },
		"ptrace1": func() error { return syscall.PtraceAttach(1) },
		"reboot":  func() error { return syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF) },
		"clock": func() error {
			var now syscall.Timeval
			syscall.Gettimeofday(&now)
			return syscall.Settimeofday(&now)
		},
		"hostname": func() error { return syscall.Sethostname([]byte("other")) },
		"chroot":   func() error { return syscall.Chroot("/") },
		"device":   func() error { return blockDevice() },
		"keyring":  func() error { return keyring() },
		"bpf":      func() error { return call(321) },
		"module":   func() error { return call(syscall.SYS_INIT_MODULE) },
		"write":    func() error { return writable(args) },
		"unix":     func() error { return unixSocket(args) },
		"spoof6":   func() error { return spoof6(args) },
		"spoof4":   func() error { return spoof4(args) },
	}
	attempt, known := attempts[what]
	if !known {
		fmt.Fprintln(os.Stderr, "no such attempt:", what)
		return 2
	}
	if err := attempt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func opened(fd int, err error) error {
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

func call(number uintptr) error {
	if _, _, errno := syscall.Syscall(number, 0, 0, 0); errno == syscall.EPERM || errno == syscall.ENOSYS || errno == syscall.EACCES {
		return errno
	}
	return nil
}

func keyring() error {
	const addKey = 248
	kind, name := []byte("user\x00"), []byte("x\x00")
	_, _, errno := syscall.Syscall6(addKey, uintptr(unsafe.Pointer(&kind[0])), uintptr(unsafe.Pointer(&name[0])), 0, 0, 0, 0)
	if errno == syscall.EPERM || errno == syscall.ENOSYS {
		return errno
	}
	return nil
}

// blockDevice makes a node for each disk of the usual numbers and reads it.
func blockDevice() error {
	var last error = syscall.ENOENT
	for _, major := range []int{8, 253, 254, 259, 1} {
		path := fmt.Sprintf("/tmp/disk%d", major)
		if err := syscall.Mknod(path, syscall.S_IFBLK|0o600, major<<8); err != nil {
			last = err
			continue
		}
		file, err := os.Open(path)
		if err == nil {
			file.Close()
			return nil
		}
		last = err
	}
	return last
}

func writable(paths []string) error {
	var failed []error
	for _, path := range paths {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			file.Close()
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func unixSocket(paths []string) error {
	var failed []error
	for _, path := range paths {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// spoof6 sends a datagram "spoofed" to the address args[0] from the address args[1], which is not the instance's.
func spoof6(args []string) error {
	const ipv6Freebind = 78
	target, source, err := endpoints(args)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, ipv6Freebind, 1); err != nil {
		return err
	}
	from, to := syscall.SockaddrInet6{}, syscall.SockaddrInet6{Port: target.Port}
	copy(from.Addr[:], source.IP.To16())
	copy(to.Addr[:], target.IP.To16())
	if err := syscall.Bind(fd, &from); err != nil {
		return err
	}
	return syscall.Sendto(fd, []byte("spoofed"), 0, &to)
}

// spoof4 does the same over IPv4, for which a transparent socket is needed.
func spoof4(args []string) error {
	target, source, err := endpoints(args)
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_TRANSPARENT, 1); err != nil {
		return err
	}
	from, to := syscall.SockaddrInet4{}, syscall.SockaddrInet4{Port: target.Port}
	copy(from.Addr[:], source.IP.To4())
	copy(to.Addr[:], target.IP.To4())
	if err := syscall.Bind(fd, &from); err != nil {
		return err
	}
	return syscall.Sendto(fd, []byte("spoofed"), 0, &to)
}

func endpoints(args []string) (target, source *net.UDPAddr, err error) {
	if len(args) != 2 {
		return nil, nil, fmt.Errorf("not TARGET and SOURCE: %s", strings.Join(args, " "))
	}
	if target, err = net.ResolveUDPAddr("udp", args[0]); err != nil {
		return nil, nil, err
	}
	source, err = net.ResolveUDPAddr("udp", net.JoinHostPort(args[1], "0"))
	return target, source, err
}
