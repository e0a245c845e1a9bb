package compose

import (
	"fmt"
	"maps"
	"slices"
)

// keys gives the names of a mapping's fields. It may be called on nil.
func (n *node) keys() []string {
	if n == nil {
		return nil
	}
	return n.names
}

// didYouMean gives a hint with the known name that is nearest, or with all of a few.
func didYouMean(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) > 0 && len(known) <= 8 {
		return "it can be " + oneOf(known)
	}
	return ""
}

// nearest gives the known name that is few changes away, or "".
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, candidate); d < least && d < max(len(candidate), 2) {
			best, least = candidate, d
		}
	}
	return best
}

// oneOf writes the names as a choice.
func oneOf(names []string) string {
	names = slices.Sorted(slices.Values(names))
	text := ""
	for i, name := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			text += " or "
		default:
			text += ", "
		}
		text += name
	}
	return text
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// distance counts the letters to add, drop, change or swap with a neighbour to come from a to b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	rows := [3][]int{}
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
	}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[2][0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[2][j] = min(rows[1][j]+1, rows[2][j-1]+1, rows[1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[2][j] = min(rows[2][j], rows[0][j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = rows[1], rows[2], rows[0]
	}
	return rows[1][len(b)]
}
