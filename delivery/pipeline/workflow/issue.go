package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// Issue is one fault or warning, at its place.
type Issue struct {
	File    string    `json:"file"`
	Line    int       `json:"line,omitempty"` // from 1; 0: the file as a whole
	Column  int       `json:"column,omitempty"`
	Key     string    `json:"key,omitempty"` // the key of the language, such as jobs.*.steps.*.uses
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"` // what to write instead
	Kind    maru.Kind `json:"kind,omitempty"` // Invalid or Unsupported; "" for a warning
}

// String gives "file:line:column: message".
func (i Issue) String() string {
	where := i.File
	if i.Line > 0 {
		where += fmt.Sprintf(":%d:%d", i.Line, i.Column)
	}
	if where != "" {
		where += ": "
	}
	return where + i.Message
}

// Issues is all that was found in files, sorted by place.
type Issues []Issue

// Err gives an error of the kind Invalid or Unsupported with a line for each fault, nil when there
// are warnings at most.
func (all Issues) Err() error {
	kind, hint := maru.Unsupported, ""
	var lines []string
	for _, i := range all {
		if i.Kind == "" {
			continue
		}
		if i.Kind != maru.Unsupported {
			kind = i.Kind
		}
		line := i.String()
		if i.Hint != "" {
			hint = i.Hint
		}
		lines = append(lines, line)
	}
	switch len(lines) {
	case 0:
		return nil
	case 1:
		return maru.WithHint(maru.Errorf(kind, "%s", lines[0]), hint)
	}
	return maru.Errorf(kind, "%s", strings.Join(lines, "\n"))
}

// Warnings are those that are no faults.
func (all Issues) Warnings() []Issue {
	var warnings []Issue
	for _, i := range all {
		if i.Kind == "" {
			warnings = append(warnings, i)
		}
	}
	return warnings
}

func (all Issues) sorted() Issues {
	slices.SortStableFunc(all, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(all, func(a, b Issue) bool { return a == b })
}

func sameName(a, b string) bool { return strings.EqualFold(a, b) }
