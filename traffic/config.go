package traffic

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/sockets"
	"github.com/marucloud/maru/traffic/accesslog"
	"github.com/marucloud/maru/traffic/discovery"
)

// Config says how the data plane runs. The zero value is one that listens nowhere and is told its
// state through [Proxy.Update].
type Config struct {
	Ranges maru.Ranges // zero: maru.DefaultRanges
	Server string      // unix socket of the traffic stream; "": none
	State  string      // folder for the last known state, never keys; "": not kept

	// Listeners and Packets are sockets that were opened before, by name:
	// http, https, mesh, dns-tcp and, in Packets, dns-udp and quic, each with an optional number behind it.
	Listeners map[string]net.Listener
	Packets   map[string]net.PacketConn

	// Listen opens a further socket, for a published port: network is tcp or udp, address as in
	// net.Listen. Asked again for one that is open it gives that one. Nil: they are opened here, and
	// end with the process.
	Listen func(ctx context.Context, network, address string) (*os.File, error)
	// Release tells that a socket that Listen gave is not needed any more. May be nil.
	Release func(network, address string)

	// Keep hands a sealed file in memory to someone who outlives this process, replacing the earlier
	// one of the name; Kept gives it back, or nil. The caller owns the file it gets and may close the
	// one it gave after Keep returned. They carry the certificates' keys over a restart. May be nil.
	Keep func(name string, f *os.File) error
	Kept func(name string) (*os.File, error)

	// Ready is called once by [Proxy.Run] when it accepts at all its doors. May be nil.
	Ready func() error
	// Settle is the longest that a proxy which knows no services at first, or has no certificates, leaves
	// connections waiting in its sockets, those with TLS in the second case, until the server tells of
	// them; 0: 5 s.
	Settle time.Duration

	// Original tells where a connection to the mesh was going; nil: the kernel is asked.
	Original func(net.Conn) (netip.AddrPort, error)

	AccessLog      io.Writer        // a line for each request; nil: none
	LogFormat      accesslog.Format // of its lines; nil: JSON
	TrustedProxies []netip.Prefix   // whose X-Forwarded-* and Forwarded are believed at the gateway
	ProxyProtocol  []netip.Prefix   // whose connections, at the gateway and published ports, begin with a PROXY header
	Resolvers      []netip.AddrPort // for foreign names while the state names none; nil: the host's

	Hold         time.Duration // longest wait for an endpoint while a service has a gap; 0: 10 s; <0: none
	HoldRequests int           // most requests that wait; 0: 4096
	Introduce    time.Duration // how long a call from an address that nothing is known of yet waits for it to be known; 0: 2 s
	Drain        time.Duration // longest wait for requests and streams in flight when Run ends; 0: 30 s
	Linger       time.Duration // how long idle connections stay open after that began, for clients that are about to use them; 0: 5 s
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	for what, p := range map[string]netip.Prefix{
		"instancesV4": c.Ranges.InstancesV4, "instancesV6": c.Ranges.InstancesV6,
		"virtualV4": c.Ranges.VirtualV4, "virtualV6": c.Ranges.VirtualV6,
	} {
		if c.Ranges != (maru.Ranges{}) && !p.IsValid() {
			return maru.Errorf(maru.Invalid, "traffic: range %s is not set", what)
		}
	}
	if (c.Keep == nil) != (c.Kept == nil) {
		return maru.Errorf(maru.Invalid, "traffic: Keep and Kept go together")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Ranges == (maru.Ranges{}) {
		c.Ranges = maru.DefaultRanges()
	}
	if c.Hold == 0 {
		c.Hold = 10 * time.Second
	}
	if c.HoldRequests == 0 {
		c.HoldRequests = 4096
	}
	if c.Introduce == 0 {
		c.Introduce = 2 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 5 * time.Second
	}
	if c.Drain == 0 {
		c.Drain = 30 * time.Second
	}
	if c.Linger == 0 {
		c.Linger = 5 * time.Second
	}
	if c.Listen == nil {
		c.Listen = sockets.Open
	}
	if c.Resolvers == nil {
		// Without any, foreign names fail, and a person who looks at the state sees why.
		c.Resolvers, _ = discovery.HostResolvers("/etc/resolv.conf")
	}
	return c
}
