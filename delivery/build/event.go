package build

import "time"

// Status is how far a step is.
type Status string

// The states of a step, in the order of its life.
const (
	StepStarted Status = "started"
	StepCached  Status = "cached" // not run: its result was there
	StepDone    Status = "done"
	StepFailed  Status = "error"
)

// Event is something that happened in a build: a step changed its state, wrote a line, or is further
// with a transfer. Step and Name are in each.
type Event struct {
	Step      int       `json:"step"`             // counts the steps of the build as they appear, from 1
	Name      string    `json:"name"`             // for people, such as "[build 2/5] RUN make"
	Status    Status    `json:"status,omitempty"` // "" when it did not change
	Log       string    `json:"log,omitempty"`    // one line of output, without its end
	Error     string    `json:"error,omitempty"`
	Moved     int64     `json:"moved,omitempty"` // bytes that the step has fetched or sent
	Total     int64     `json:"total,omitempty"` // bytes that it will, as far as known
	Started   time.Time `json:"started,omitzero"`
	Completed time.Time `json:"completed,omitzero"`
}
