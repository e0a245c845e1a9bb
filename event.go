package maru

import "time"

// Event is something that happened, for people to read. Events are stored as objects of kind
// "event", named SCOPE/TIME-ID, and forgotten by age and number.
type Event struct {
	Time     time.Time `json:"time"`
	Scope    Scope     `json:"scope"`
	Service  string    `json:"service,omitempty"`
	Release  int       `json:"release,omitempty"`
	Rollout  int       `json:"rollout,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Type     string    `json:"type"` // such as rollout-started, instance-crashed
	Message  string    `json:"message"`
	By       string    `json:"by,omitempty"` // who, for what a person did
}
