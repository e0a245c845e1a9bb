package server

import (
	"runtime/debug"
	"slices"
	"strings"
)

// valid makes text fit for a protobuf string: what containers print need not be UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func validLines(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = valid(line)
	}
	return out
}

func stack() string { return string(debug.Stack()) }

// sortEvents puts the oldest first.
func sortEvents(events []namedEvent) {
	slices.SortStableFunc(events, func(a, b namedEvent) int { return a.Time.Compare(b.Time) })
}
