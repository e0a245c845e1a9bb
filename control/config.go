package control

import (
	"context"
	"time"

	"github.com/marucloud/maru"
)

// Secrets gives the value of a secret's version: NotFound when there is none. It is called by many
// goroutines at once.
type Secrets func(ctx context.Context, scope maru.Scope, name string, version int) ([]byte, error)

// Publisher takes each service's traffic to the data planes.
type Publisher interface {
	// Sync says that everything there is has been set once. Before, nobody is told anything.
	Sync()
	// Set puts services' traffic in the place of what it was, at once, and gives the version that has it.
	Set(services ...maru.ServiceTraffic) uint64
	// Remove takes services away.
	Remove(ids ...maru.ServiceID) uint64
	// InForce waits until every data plane has in force what has been set so far.
	InForce(ctx context.Context) error
}

// Config tunes a [Controller]. Its zero value is the documented default.
type Config struct {
	Ranges     maru.Ranges   // virtual addresses are taken from it; default maru.DefaultRanges
	Secrets    Secrets       // default: there are none
	Workers    int           // apps planned at once; default 8
	Retry      time.Duration // first wait after an error, doubling; default 100 ms
	RetryMax   time.Duration // longest wait after an error; default 15 s
	History    int           // rollouts kept per app; default 10
	EventAge   time.Duration // events are kept so long; default 30 days
	EventCount int           // and no more than so many in all; default 20,000
	// DeliveryAge is how long what became of rollouts is kept, for the DORA figures; default 400 days.
	DeliveryAge time.Duration
	ChangeAge   time.Duration // the store's changes are kept so long, for watchers; default 1 hour
	HostPorts   [2]uint16     // first and last host port to pick from; default 20000 to 29999
}

func (c Config) withDefaults() Config {
	if !c.Ranges.VirtualV4.IsValid() && !c.Ranges.VirtualV6.IsValid() {
		c.Ranges = maru.DefaultRanges()
	}
	if c.Secrets == nil {
		c.Secrets = func(_ context.Context, scope maru.Scope, name string, _ int) ([]byte, error) {
			return nil, maru.Errorf(maru.NotFound, "secret %q of %s does not exist", name, scope)
		}
	}
	c.Workers = orDefault(c.Workers, 8)
	c.Retry = orDefault(c.Retry, 100*time.Millisecond)
	c.RetryMax = orDefault(c.RetryMax, 15*time.Second)
	c.History = orDefault(c.History, 10)
	c.EventAge = orDefault(c.EventAge, 30*24*time.Hour)
	c.EventCount = orDefault(c.EventCount, 20_000)
	c.DeliveryAge = orDefault(c.DeliveryAge, 400*24*time.Hour)
	c.ChangeAge = orDefault(c.ChangeAge, time.Hour)
	if c.HostPorts == [2]uint16{} {
		c.HostPorts = [2]uint16{20000, 29999}
	}
	return c
}

// Validate tells what is wrong with the configuration. The error is of kind Invalid.
func (c Config) Validate() error {
	d := c.withDefaults()
	switch {
	case !d.Ranges.VirtualV4.IsValid():
		return maru.Errorf(maru.Invalid, "the range of virtual IPv4 addresses is missing")
	case d.Ranges.VirtualV4.Bits() > 28:
		return maru.Errorf(maru.Invalid, "the range of virtual addresses %s is too small: give a /28 or more", d.Ranges.VirtualV4)
	case d.HostPorts[0] == 0 || d.HostPorts[0] > d.HostPorts[1]:
		return maru.Errorf(maru.Invalid, "host ports %d to %d are no range", d.HostPorts[0], d.HostPorts[1])
	}
	return nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
