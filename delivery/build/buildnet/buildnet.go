// Package buildnet gives build steps their network: each step a namespace of its own, joined to the
// host by a routed point-to-point link. Steps reach the outside through NAT and nothing else: not the
// host, not instances or services, not each other. Names are resolved by the host's own resolvers,
// asked by the builder on the step's behalf.
package buildnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	resources "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// Config says where the network is.
type Config struct {
	Name      string         // of the installation: begins the names of interfaces and of the nftables table
	Range     netip.Prefix   // IPv4 addresses of steps
	Forbidden []netip.Prefix // what steps can't reach, apart from this machine
	Run       string         // folder
}

// Provider gives networks to build steps. It is safe for concurrent use.
type Provider struct {
	cfg   Config
	log   *slog.Logger
	mu    sync.Mutex
	ready bool
	next  uint32
	used  map[uint32]bool
}

var _ network.Provider = (*Provider)(nil)

// New gives a provider that touches nothing until it is asked for a network.
func New(cfg Config, log *slog.Logger) *Provider {
	return &Provider{cfg: cfg, log: log, used: map[uint32]bool{}}
}

// nameserver is where a step finds the builder's resolver, on its own loopback.
var nameserver = netip.MustParseAddr("169.254.0.53")

// New makes the network of one step.
func (p *Provider) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	slot, err := p.take()
	if err != nil {
		return nil, err
	}
	n := &namespace{provider: p, slot: slot, link: linkPrefix(p.cfg.Name) + strconv.FormatUint(uint64(slot), 16)}
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("network of a build step: %w", err), n.Close())
	}
	return n, nil
}

// Close takes the rules away. No step may have a network any more.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		return nil
	}
	p.ready = false
	return errors.Join(removeRules(p.cfg.Name), leaveOthers(p.cfg.Name))
}

// take reserves a place in the range, another one each time, and sees that the rules are there.
func (p *Provider) take() (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		if err := p.prepare(); err != nil {
			return 0, err
		}
		p.ready = true
	}
	if err := passOthers(p.cfg.Name); err != nil {
		p.log.Warn("other firewalls may keep build steps from the network", "error", err)
	}
	size := uint32(min(1<<(32-p.cfg.Range.Bits()), 1<<16)) - 2
	for range size {
		p.next = p.next%size + 1
		if !p.used[p.next] {
			p.used[p.next] = true
			return p.next, nil
		}
	}
	return 0, maru.Errorf(maru.Exhausted, "no free address for a build step in %s", p.cfg.Range)
}

func (p *Provider) release(slot uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, slot)
}

func (p *Provider) prepare() error {
	if err := removeLinks(p.cfg.Name); err != nil {
		return fmt.Errorf("remove old links of builds: %w", err)
	}
	if err := forward(); err != nil {
		return err
	}
	if err := addRules(p.cfg); err != nil {
		return maru.WithHint(fmt.Errorf("firewall rules of builds: %w", err), "builds need nftables in the kernel; those without a network (build.network: none) do not")
	}
	conf := fmt.Sprintf("nameserver %s\noptions ndots:0\n", nameserver)
	return os.WriteFile(p.resolvConf(), []byte(conf), 0o644)
}

func (p *Provider) resolvConf() string { return filepath.Join(p.cfg.Run, "resolv.conf.step") }

// forward lets the kernel pass on what steps send.
func forward() error {
	const file = "/proc/sys/net/ipv4/ip_forward"
	now, err := os.ReadFile(file)
	if err == nil && len(now) > 0 && now[0] == '1' {
		return nil
	}
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		return fmt.Errorf("turn on forwarding: %w", err)
	}
	return nil
}

// Clean removes the links and rules that a builder which was killed left.
func Clean(name string) error {
	return errors.Join(removeLinks(name), removeRules(name), leaveOthers(name))
}

// namespace is one step's network.
type namespace struct {
	provider *Provider
	slot     uint32
	link     string
	file     *os.File
	resolver *resolver
	closing  sync.Once
	closed   error
}

func (n *namespace) open() error {
	file, err := newNamespace()
	if err != nil {
		return err
	}
	n.file = file
	if err := connect(n.link, addressAt(n.provider.cfg.Range, n.slot), file); err != nil {
		return err
	}
	n.resolver, err = startResolver(file, n.provider.log)
	return err
}

// Set puts the step into the network. The namespace has no name: it goes with this process.
func (n *namespace) Set(spec *specs.Spec) error {
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = path
		}
	}
	for i, m := range spec.Mounts {
		if m.Destination == "/etc/resolv.conf" {
			spec.Mounts[i].Source = n.provider.resolvConf()
		}
	}
	return nil
}

// Sample tells nothing.
func (n *namespace) Sample() (*resources.NetworkSample, error) { return nil, nil }

// Close takes the network away.
func (n *namespace) Close() error {
	n.closing.Do(func() {
		if n.resolver != nil {
			n.resolver.close()
		}
		n.closed = removeLink(n.link)
		if n.file != nil {
			n.file.Close()
		}
		n.provider.release(n.slot)
	})
	return n.closed
}

func addressAt(p netip.Prefix, slot uint32) netip.Addr {
	a := p.Masked().Addr().As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n += slot
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// newNamespace uses a thread that is in the new namespace and therefore thrown away after.
func newNamespace() (*os.File, error) {
	var file *os.File
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
	}()
	<-done
	return file, err
}

// within runs f on a thread that is in the namespace, and then thrown away.
func within(file *os.File, f func() error) error {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	<-done
	return err
}
