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
