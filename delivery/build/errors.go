package build

import (
	"fmt"
	"strings"

	"github.com/marucloud/maru"
)

// StepError tells which step of a build failed, where it is written, and what it said last.
type StepError struct {
	Step     string   `json:"step,omitempty"`     // as in [Event.Name]
	File     string   `json:"file,omitempty"`     // such as Dockerfile
	Line     int      `json:"line,omitempty"`     // 0: unknown
	Source   []string `json:"source,omitempty"`   // the lines of the file that make the step, the first is Line
	ExitCode int      `json:"exitCode,omitempty"` // of its process; 0: it had none
	Output   []string `json:"output,omitempty"`   // last lines
	Reason   string   `json:"reason"`             // in words
}

// Error gives all of it, on several lines.
func (e *StepError) Error() string {
	var b strings.Builder
	switch {
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: %s", e.File, e.Line, e.Reason)
	case e.Step != "":
		fmt.Fprintf(&b, "%s: %s", e.Step, e.Reason)
	default:
		b.WriteString(e.Reason)
	}
	for i, line := range e.Source {
		fmt.Fprintf(&b, "\n  %4d | %s", e.Line+i, line)
	}
	for _, line := range e.Output {
		fmt.Fprintf(&b, "\n  > %s", line)
	}
	return b.String()
}

// Err gives the error with its kind: a step's failure lies in the source, and stays.
func (e *StepError) Err() error { return maru.Errorf(maru.Invalid, "%w", e) }
