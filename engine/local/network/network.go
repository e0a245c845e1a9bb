// Package network gives each instance its own network on one machine: a network namespace on a
// routed point-to-point link, addresses that are its identity, virtual addresses of services that
// the kernel balances, and a policy of who may reach whom.
//
// Everything is done through netlink and nftables. What is in force in the kernel survives the
// process: a new one finds it by [Network.Setup] and interrupts nothing.
package network

import (
	"log/slog"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/local/userns"
)

// Config is the tuning of a Network. The zero value is ready to use.
type Config struct {
	// Name begins the names of interfaces and is that of the nftables table: layout.Layout.Name.
	// At most 8 of a-z and 0-9; default "maru".
	Name string
	// RunDir holds the namespaces (RunDir/netns, RunDir/userns) and what is known of them (RunDir/network).
	// It must be empty after a reboot: layout.Layout.Run. Default /run/NAME.
	RunDir string
	// Ranges are the addresses of instances and services. Default maru.DefaultRanges().
	Ranges maru.Ranges
	// NoMesh balances HTTP ports like all others, for a machine without a proxy.
	NoMesh bool
	// MTU of the instances' links; default that of the interface with the default route, at most 1500.
	MTU int
}

var nameForm = regexp.MustCompile(`^[a-z0-9]{1,8}$`)

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "maru"
	}
	if c.RunDir == "" {
		c.RunDir = "/run/" + c.Name
	}
	if c.Ranges == (maru.Ranges{}) {
		c.Ranges = maru.DefaultRanges()
	}
	return c
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	c = c.withDefaults()
	if !nameForm.MatchString(c.Name) {
		return maru.Errorf(maru.Invalid, "network name %q is not 1 to 8 of a-z and 0-9", c.Name)
	}
	if !filepath.IsAbs(c.RunDir) {
		return maru.Errorf(maru.Invalid, "network folder %q is not absolute", c.RunDir)
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > 65535) {
		return maru.Errorf(maru.Invalid, "MTU %d is not between 1280 and 65535", c.MTU)
	}
	return validateRanges(c.Ranges)
}

// Spec is what an instance's network is to be.
type Spec struct {
	Service   maru.ServiceID   `json:"service"`
	Networks  []maru.NetworkID `json:"networks,omitempty"` // whom it reaches: services that share one
	Isolated  bool             `json:"isolated,omitempty"` // no way out of the machine
	Addresses maru.Addresses   `json:"addresses"`          // from Allocate; V4 is required
	Users     userns.Range     `json:"users,omitempty"`    // of a user namespace that owns the network; zero: the host's owns it
}

// Network is the network of one installation's instances. Methods are safe for concurrent use.
//
// It is a [maru.DataPlane]: Update balances the services' virtual addresses and holds the policy of
// who may reach whom. An instance can call out from the moment it is attached, by its Spec, whether
// or not an Update has named it yet; it is reached from the Update on that names it as an endpoint.
type Network struct {
	cfg  Config
	log  *slog.Logger
	ids  keyLock // held while an instance is attached or detached
	wake chan struct{}

	mu       sync.Mutex // of all below
	host     *netlink.Handle
	nft      *nftables.Conn // see newBatch
	mtu      int
	addrs    *allocator
	attached map[string]attachment
	groups   map[group]map[string]bool // instances by what they belong to
	state    *tableState
	synced   bool // there was a full update
	pending  leftovers
	warned   map[string]bool
}

// New makes a Network. It changes nothing on the machine.
func New(cfg Config, log *slog.Logger) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if !ipv6Usable() {
		cfg.Ranges.InstancesV6, cfg.Ranges.VirtualV6 = maru.Ranges{}.InstancesV6, maru.Ranges{}.VirtualV6
	}
	return &Network{
		cfg: cfg, log: log, wake: make(chan struct{}, 1),
		addrs: newAllocator(cfg.Ranges), attached: map[string]attachment{}, groups: map[group]map[string]bool{},
		state: newTableState(), warned: map[string]bool{},
	}, nil
}

// Host is the machine's address as instances see it: gateway and name server. V6 is the zero Addr
// when the machine has no IPv6.
func (n *Network) Host() maru.Addresses {
	host := maru.Addresses{}
	for _, a := range n.hosts() {
		if a.Is4() {
			host.V4 = a
		} else {
			host.V6 = a
		}
	}
	return host
}

// Allocate gives addresses that nothing uses or has used lately. They are in use until Release, or
// Detach of the instance that was attached with them. Exhausted when the range is.
func (n *Network) Allocate() (maru.Addresses, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs.allocate(time.Now())
}

// Reserve marks addresses as in use: those of instances that are wanted, before the first Allocate.
func (n *Network) Reserve(addrs ...maru.Addresses) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		n.addrs.reserve(a)
	}
}

// Release gives back addresses that were allocated or reserved and are not attached.
func (n *Network) Release(addrs maru.Addresses) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.attached {
		if a.Addresses == addrs {
			return
		}
	}
	n.addrs.release(addrs, time.Now())
}

var _ maru.DataPlane = (*Network)(nil)

// keyLock locks by name.
type keyLock struct {
	mu   sync.Mutex
	held map[string]*heldKey
}

type heldKey struct {
	sync.Mutex
	users int
}

// lock waits until nobody holds the key, and gives what releases it.
func (l *keyLock) lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*heldKey{}
	}
	k := l.held[key]
	if k == nil {
		k = &heldKey{}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()
	k.Lock()
	return func() {
		k.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, key)
		}
	}
}
