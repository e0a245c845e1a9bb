// Package order is what an order is to those who take it and those who bring it on its way.
package order

import (
	"time"
)

// Prefixes of keys in the store: orders by ID, which sort by time, and the IDs of those to be worked on.
const (
	Prefix = "order/"
	Queue  = "queue/"
	Schema = "schema" // the version of the form that the data has
)

// Order is one order.
type Order struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	Lines    []Line    `json:"lines"`
	Total    int       `json:"total"` // cents
	State    State     `json:"state"`
	Reason   string    `json:"reason,omitempty"` // why it was declined
	Placed   time.Time `json:"placed"`
	Changed  time.Time `json:"changed"`
}

// Line is so many of one product.
type Line struct {
	Product  string `json:"product"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
	Price    int    `json:"price"` // of one, cents
}

// State is how far an order is.
type State string

// The states, in order. Declined and Shipped are the last.
const (
	Placed   State = "placed"
	Paying   State = "paying"
	Declined State = "declined"
	Packing  State = "packing"
	Shipped  State = "shipped"
)

// Done tells whether nothing more happens to an order.
func (s State) Done() bool { return s == Declined || s == Shipped }
