package maru

import "time"

// Balance says how requests are shared out among a service's instances.
type Balance struct {
	Policy    BalancePolicy `json:"policy,omitempty"`    // "": Prequal
	Header    string        `json:"header,omitempty"`    // of Hash: the field whose value is the key
	Cookie    string        `json:"cookie,omitempty"`    // of Hash: the cookie likewise; without either the client's address
	SlowStart time.Duration `json:"slowStart,omitempty"` // until an instance that joins others gets all of its part; 0: 10 s; <0: none
}

// BalancePolicy is a way of balancing.
type BalancePolicy string

// The ways of balancing.
const (
	Prequal       BalancePolicy = "prequal" // by latency and requests in flight
	RoundRobin    BalancePolicy = "round_robin"
	LeastRequests BalancePolicy = "least_requests"
	Hash          BalancePolicy = "hash" // requests with the same key to the same instance
)

// Limits say how many requests may be at a service at once, at all its instances together.
type Limits struct {
	Concurrency int           `json:"concurrency,omitempty"` // 0: any number; <0: as many as it can do, which is found
	Queue       int           `json:"queue,omitempty"`       // requests beyond that which wait; those beyond these are refused at once
	Wait        time.Duration `json:"wait,omitempty"`        // the longest wait of these; 0: 1 s
}

// Priority says how important requests are: when there are too many, the least important are refused first.
type Priority string

// The priorities.
const (
	LowPriority    Priority = "low"
	NormalPriority Priority = "normal"
	HighPriority   Priority = "high"
)

// CallRule lets a caller make some calls only: with one of the methods, to one of the paths or below it.
type CallRule struct {
	Methods []string `json:"methods,omitempty"` // empty: any
	Paths   []string `json:"paths,omitempty"`   // empty: any
}

// Fault is what is done on purpose to some of a service's requests, to see what that does to others.
type Fault struct {
	From    []string      `json:"from,omitempty"` // callers: services of the app, or "gateway"; empty: any
	Rule    CallRule      `json:"rule,omitzero"`
	Percent float64       `json:"percent,omitempty"` // of the requests that it is for; 0: all
	Delay   time.Duration `json:"delay,omitempty"`   // before they are sent, or what follows happens
	Status  int           `json:"status,omitempty"`  // is answered instead; 0: the service's answer
	Cut     bool          `json:"cut,omitempty"`     // the connection is ended instead of an answer
	Corrupt bool          `json:"corrupt,omitempty"` // bytes of the answer's body are changed
}

// Validate tells what is wrong with the fault, as Invalid.
func (f Fault) Validate() error {
	switch {
	case f.Percent < 0 || f.Percent > 100:
		return Errorf(Invalid, "a fault is for 0 to 100 percent of the requests, not %v", f.Percent)
	case f.Delay < 0:
		return Errorf(Invalid, "a fault can't delay requests by %s", f.Delay)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return Errorf(Invalid, "a fault can't answer with %d", f.Status)
	case f.Delay == 0 && f.Status == 0 && !f.Cut && !f.Corrupt:
		return Errorf(Invalid, "a fault that does nothing: it needs a delay, a status, cut or corrupt")
	case (f.Cut || f.Corrupt) && f.Status != 0 || f.Cut && f.Corrupt:
		return Errorf(Invalid, "a fault has one of status, cut and corrupt")
	}
	return nil
}
