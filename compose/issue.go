package compose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Issue is one fault or warning, at its place.
type Issue struct {
	File    string    `json:"file"`           // relative to [Options.Dir] when within it
	Line    int       `json:"line,omitempty"` // from 1; 0: the file as a whole
	Column  int       `json:"column,omitempty"`
	Path    string    `json:"path,omitempty"` // where in the app, such as services.web.ports[0].mode
	Key     string    `json:"key,omitempty"`  // the key of the specification, such as services.*.ports.mode
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"` // what to write instead
	Kind    maru.Kind `json:"kind,omitempty"` // Invalid or Unsupported; "" for a warning
}

// String gives "file:line:column: message".
func (i Issue) String() string {
	where := i.File
	if i.Line > 0 {
		where += fmt.Sprintf(":%d", i.Line)
		if i.Column > 0 {
			where += fmt.Sprintf(":%d", i.Column)
		}
	}
	if where != "" {
		where += ": "
	}
	return where + i.Message
}

// Issues is all that keeps files from being loaded, sorted by place. It has the kind Invalid, or
// Unsupported when nothing in it is Invalid.
type Issues struct {
	All []Issue
	err error
}

func newIssues(all []Issue) *Issues {
	sortIssues(all)
	kind, hint := maru.Unsupported, ""
	for _, i := range all {
		if i.Kind != maru.Unsupported {
			kind = i.Kind
		}
		if hint == "" {
			hint = i.Hint
		}
	}
	s := &Issues{All: all}
	s.err = maru.Errorf(kind, "%s", s.Error())
	if len(all) == 1 {
		s.err = maru.WithHint(s.err, hint)
	}
	return s
}

// Error gives one line for each issue.
func (s *Issues) Error() string {
	lines := make([]string, len(s.All))
	for i, issue := range s.All {
		lines[i] = issue.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the error that carries the kind, and the hint when there is one issue only.
func (s *Issues) Unwrap() error { return s.err }

func sortIssues(all []Issue) {
	slices.SortStableFunc(all, func(a, b Issue) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Message, b.Message),
		)
	})
}
