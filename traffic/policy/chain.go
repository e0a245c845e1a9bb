// Package policy does with a route's requests and answers what the route says besides leading them on.
// A route's policy is made ready once, when it comes into force; a route without one costs nothing.
//
// Each part is a step in a fixed order: who may not come at all is turned away before anything is counted
// or asked. What changes answers comes first, so that it sees every one, also those that steps give.
package policy

import (
	"net/netip"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// Chain is a route's policy, ready for requests. It is for many goroutines.
type Chain struct {
	steps   []step
	timeout time.Duration
	asks    bool
	fault   error // why nothing is let through
}

// Asks tells whether services are asked: then Begin needs an [Env.Ask].
func (c *Chain) Asks() bool { return c.asks }

// Fault says why the policy is not in force, so that every request is refused; nil where it is. It may be
// asked of a nil chain.
func (c *Chain) Fault() error {
	if c == nil {
		return nil
	}
	return c.fault
}

// step looks at a request before it is carried. An answer ends it.
type step interface{ take(x *Exchange) *Answer }

// Exchange is one request under a chain.
type Exchange struct {
	Client  message.Client // who is answered: the client, or a step before it
	Request *message.Request
	Source  netip.Addr // the client's address, behind trusted proxies
	User    string     // who asks, once that is known; "": nobody knows
	Token   string     // by which that is known
	Out     Out

	env   Env
	after []func()
}

// Env is what steps reach beyond a request. The zero value reaches nothing.
type Env struct {
	Scheme  string         // by which the client came, maybe to a trusted proxy before
	Service maru.ServiceID // whose route it is
	// Ask asks a service of the route's app: the request's target and header at the port, or for 0 at its
	// first HTTP port.
	Ask func(service string, port uint16, r *message.Request, timeout time.Duration) *Reply
	// Secrets are the service's that have to be known as they are, by key.
	Secrets map[string]string
	// Sealer encrypts what clients keep; nil: nothing can be.
	Sealer Sealer
	// Quotas counts; nil: nobody has any.
	Quotas Quotas
}

// Sealer encrypts and authenticates data for a purpose, bound to something that both sides know. What was
// sealed can be opened by the next process as well.
type Sealer interface {
	Seal(purpose, bound string, data []byte) string
	Open(purpose, bound, text string) (data []byte, ok bool)
}

// Reply is what someone who was asked answers.
type Reply struct {
	Status int
	Header message.Header
	Body   []byte
}

// MostReply bounds the body of a reply, in bytes.
const MostReply = 1 << 20

// Out is what the service gets instead of what the client sent.
type Out struct {
	Target string // "": the request's
	Host   string // "": the request's
	Edits  []message.Edit
	Time   time.Duration // for the request; 0: the service's
	HTTP2  bool          // the service is asked by HTTP/2, whatever its port is said to speak
}

// Answer is given in the service's stead.
type Answer struct {
	Status int
	Title  string
	What   string         // what happened, for whoever sees it
	Do     string         // what to do about it
	Reason string         // for the access log
	After  time.Duration  // until it is worth trying again; 0: says nothing of it
	Header message.Header // besides the usual
	Bare   bool           // without a body
	Body   []byte         // of its own, of the type in Header, in place of a page
}

// New makes a route's policy ready. The error is of kind Invalid; the chain then refuses every request.
func New(r maru.Route) (*Chain, error) {
	if err := r.Understood(); err != nil {
		return &Chain{steps: []step{unknown{}}, fault: err}, err
	}
	p := r.Policy
	if p == nil {
		return nil, nil
	}
	steps, err := stepsOf(p, r)
	if err != nil {
		return &Chain{steps: []step{broken{}}, fault: err}, err
	}
	asks := p.Auth != nil && p.Auth.Forward != nil && p.Auth.Forward.Service != ""
	return &Chain{steps: steps, timeout: p.Timeout, asks: asks}, nil
}

// stepsOf makes a policy's steps, in their order.
func stepsOf(p *maru.RoutePolicy, r maru.Route) ([]step, error) {
	path := r.PathName()
	early, late, err := newLimits(p.Limits)
	if err != nil {
		return nil, err
	}
	var steps []step
	for _, made := range []func() (step, error){
		func() (step, error) { return newCompress(p.Compress) },
		func() (step, error) { return newEdits(p.Request, p.Response) },
		func() (step, error) { return newCORS(p.CORS, p.GRPCWeb) },
		func() (step, error) { return newGRPCWeb(p.GRPCWeb) },
		func() (step, error) { return newAddresses(p.Addresses) },
		func() (step, error) { return newMaintenance(p.Maintenance) },
		func() (step, error) { return early, nil },
		func() (step, error) { return newAuth(p.Auth, path) },
		func() (step, error) { return late, nil },
		func() (step, error) { return newQuotas(p.Quotas, r.Claims()[0]) },
		func() (step, error) { return newConcurrency(p.Concurrency) },
		func() (step, error) { return newRedirect(p.Redirect, path) },
		func() (step, error) { return newBodyLimit(p.MaxBody) },
		func() (step, error) { return newRewrite(p.Rewrite, path) },
	} {
		s, err := made()
		if err != nil {
			return nil, err
		}
		if s != nil {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// Begin makes an exchange of a request. Its End is called once.
func (c *Chain) Begin(client message.Client, r *message.Request, source netip.Addr, env Env) *Exchange {
	return &Exchange{Client: client, Request: r, Source: source, Out: Out{Time: c.timeout}, env: env}
}

// Run takes the request through the steps, until one answers.
func (c *Chain) Run(x *Exchange) *Answer {
	for _, s := range c.steps {
		if a := s.take(x); a != nil {
			return a
		}
	}
	return nil
}

// End gives back what the steps hold for the request.
func (x *Exchange) End() {
	for _, f := range x.after {
		f()
	}
}

// broken refuses what a policy that can't be made ready was to judge.
type broken struct{}

func (broken) take(*Exchange) *Answer {
	return &Answer{
		Status: 500, Title: "Policy not in force", Reason: "the route's policy is not valid",
		What: "The policy of this route is not valid, so that nothing is let through.", Do: "Run: maru routes",
	}
}

// unknown refuses what a policy that this version does not know was to judge.
type unknown struct{}

func (unknown) take(*Exchange) *Answer {
	return &Answer{
		Status: 503, Title: "Policy not known", Reason: "the route's policy is of a later version",
		What: "The policy of this route was written for a later version of Maru than this one, so that nothing is let through.",
		Do:   "Bring the proxy to the version of the server. Run: maru routes",
	}
}
