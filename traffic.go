package maru

import (
	"net/netip"
	"time"
)

// ServiceTraffic is all that the data plane knows of one service. It is a pure function of that
// service's objects and observations.
type ServiceTraffic struct {
	Service        ServiceID             `json:"service"`
	Since          time.Time             `json:"since,omitzero"` // when it was first deployed: of two routes that are alike the older one counts
	VirtualAddress Addresses             `json:"virtualAddress"`
	Networks       map[string][]string   `json:"networks,omitempty"` // the names it has (with its own), by NetworkID.String()
	DNSRoundRobin  bool                  `json:"dnsRoundRobin,omitempty"`
	Isolated       bool                  `json:"isolated,omitempty"` // no way out of the machine
	Ports          []Port                `json:"ports,omitempty"`    // with App known: http, h2c and grpc go through the proxy, all else is balanced by the kernel
	Publish        []PublishedPort       `json:"publish,omitempty"`
	Routes         []Route               `json:"routes,omitempty"`
	Allow          []string              `json:"allow,omitempty"`
	AllowCalls     map[string][]CallRule `json:"allowCalls,omitempty"` // what callers of Allow may ask; those that are not here: all
	Timeout        time.Duration         `json:"timeout,omitempty"`
	Retry          Retry                 `json:"retry"`
	Balance        Balance               `json:"balance,omitzero"`
	Limits         Limits                `json:"limits,omitzero"`
	Faults         []Fault               `json:"faults,omitempty"`   // the file's and those set while it runs
	Priority       Priority              `json:"priority,omitempty"` // of the calls that it makes
	Serving        []Weight              `json:"serving,omitempty"`
	Split          *Split                `json:"split,omitempty"`     // while a rollout shifts traffic
	Replay         int                   `json:"replay,omitempty"`    // safe requests that are sent again, to either release, in a second of a rollout that is judged
	Endpoints      []Endpoint            `json:"endpoints,omitempty"` // sorted by Instance
	Empty          string                `json:"empty,omitempty"`     // without a ready endpoint: why, for the page a person sees

	// Secrets are those that data planes have to know as they are, by their keys in App.Secrets. They are never
	// written to a disk by a data plane.
	Secrets map[string]string `json:"secrets,omitempty"`
}

// Endpoint is an instance's address. Only ready ones get new requests; the others are listed because
// an address is also a caller's identity.
type Endpoint struct {
	Instance  string    `json:"instance"`
	Release   int       `json:"release"`
	Addresses Addresses `json:"addresses"`
	Socket    string    `json:"socket,omitempty"` // a unix socket, of a part of the platform: it is connected to instead of an address
	Ready     bool      `json:"ready"`
	Draining  bool      `json:"draining,omitempty"`
	Baseline  bool      `json:"baseline,omitempty"` // a fresh one of the old release, that the new one is compared with
}

// TrafficUpdate is a step of the stream from the control plane to a data plane. Services replace
// earlier ones of the same ID. The first update of a stream is Full: what it does not name is gone.
type TrafficUpdate struct {
	Version      uint64           `json:"version"` // grows with each update of one server's life
	Full         bool             `json:"full,omitempty"`
	Services     []ServiceTraffic `json:"services,omitempty"`
	Removed      []ServiceID      `json:"removed,omitempty"`
	Certificates []Certificate    `json:"certificates,omitempty"` // replace all earlier ones, if any
	Resolvers    []netip.AddrPort `json:"resolvers,omitempty"`    // for names that are not Maru's
	Challenges   *[]Challenge     `json:"challenges,omitempty"`   // replace all earlier ones; nil: as before
}

// Challenge is what an authority asks of the gateway to see that a host is its own (RFC 8555, 8): an answer
// by HTTP, or a certificate for the protocol acme-tls/1 (RFC 8737).
type Challenge struct {
	Host        string       `json:"host"`
	Token       string       `json:"token,omitempty"`
	Answer      string       `json:"answer,omitempty"`      // to /.well-known/acme-challenge/TOKEN
	Certificate *Certificate `json:"certificate,omitempty"` // shown once, for nothing else
}

// Certificate is a TLS certificate with its key, for the names in it.
type Certificate struct {
	Chain []byte `json:"chain"` // PEM
	Key   []byte `json:"key"`   // PEM; never written to a disk by the data plane
	// Public says that strangers trust it: requests for its names are sent to HTTPS, unless their route
	// says otherwise.
	Public bool `json:"public,omitempty"`
}

// TrafficReport is what a data plane tells of itself.
type TrafficReport struct {
	Version  uint64           `json:"version"`            // in force
	InFlight map[string]int   `json:"inFlight,omitempty"` // requests and streams at draining instances, by instance ID
	Problems []TrafficProblem `json:"problems,omitempty"` // what it was told and can't do
}

// TrafficProblem is a part of a service's traffic that is not in force, such as a host port that
// another service holds.
type TrafficProblem struct {
	Service ServiceID `json:"service"`
	What    string    `json:"what"` // such as "host port 8080/tcp"
	Why     string    `json:"why"`
}

// DataPlane takes traffic state. It is implemented by the proxy's stream and by the engine's kernel
// balancing; both are told the same.
type DataPlane interface {
	// Update puts a step in force. Steps come in the order of their Version.
	Update(TrafficUpdate) error
}

// Ranges are the addresses that Maru uses on a machine. They are blackholed on the host under the
// routes to what lives.
type Ranges struct {
	InstancesV4 netip.Prefix `json:"instancesV4"`
	InstancesV6 netip.Prefix `json:"instancesV6"`
	VirtualV4   netip.Prefix `json:"virtualV4"` // its first usable address is the host's own, see Host
	VirtualV6   netip.Prefix `json:"virtualV6"`
}

// DefaultRanges are used when the user gives none.
func DefaultRanges() Ranges {
	return Ranges{
		InstancesV4: netip.MustParsePrefix("10.210.0.0/16"),
		InstancesV6: netip.MustParsePrefix("fd6d:6172:7500:1::/64"),
		VirtualV4:   netip.MustParsePrefix("10.211.0.0/16"),
		VirtualV6:   netip.MustParsePrefix("fd6d:6172:7500:2::/64"),
	}
}

// Host is the machine's address as instances see it: their gateway, their name server, and the
// proxy's door for calls from service to service.
func (r Ranges) Host() Addresses {
	return Addresses{V4: r.VirtualV4.Masked().Addr().Next(), V6: r.VirtualV6.Masked().Addr().Next()}
}

// Ports of the data plane at [Ranges.Host]. The kernel leads connections there; no instance can
// reach another port of the host.
const (
	DNSPort  = 53    // names, over UDP and TCP
	MeshPort = 15001 // HTTP from service to service; the original destination tells the callee
)
