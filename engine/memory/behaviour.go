package memory

import (
	"time"

	"github.com/marucloud/maru"
)

// Behaviour is what one attempt of an instance does. The zero value starts at once, is ready at once,
// runs until it is stopped, and then ends at once with exit code 0.
type Behaviour struct {
	Start     time.Duration     // until its process lives
	Ready     time.Duration     // from then until it is ready; <0: never
	Message   string            // why it is not ready
	Exit      *Exit             // how it ends by itself; nil: not
	Stop      time.Duration     // from the stop signal to its end; <0: it ignores the signal
	Protocols map[uint16]string // recognized once it is ready
}

// Exit is how an attempt ends by itself.
type Exit struct {
	After       time.Duration // from when its process lives
	Code        int
	Signal      string
	OutOfMemory bool
	Lines       []string // last ones of its log
}

func defaultBehaviour(w maru.Workload, _ string, _ int) Behaviour {
	if w.Kind == maru.Job {
		return Behaviour{Exit: &Exit{}}
	}
	return Behaviour{}
}
