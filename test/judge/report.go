package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// side sums up what one of the three did with a row.
type side struct {
	back, promoted float64 // shares
	backAt         []int   // sorted, one for each rollout
	promotedAt     []int
}

func sum(results []result, of func(result) verdict) side {
	var s side
	for _, r := range results {
		v := of(r)
		s.backAt, s.promotedAt = append(s.backAt, v.back), append(s.promotedAt, v.promoted)
		if v.back < never {
			s.back += 1 / float64(len(results))
		}
		if v.promoted < never {
			s.promoted += 1 / float64(len(results))
		}
	}
	slices.Sort(s.backAt)
	slices.Sort(s.promotedAt)
	return s
}

// at is the number of requests by which the share q of all rollouts was decided that way.
func at(sorted []int, q float64) int {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// misses names the parts of the bar that the judge did not keep.
func (b bar) misses(s side) []string {
	var out []string
	if b.back > 0 && s.back > b.back {
		out = append(out, "taken back "+percent(s.back))
	}
	if b.promoted > 0 && s.promoted > b.promoted {
		out = append(out, "promoted "+percent(s.promoted))
	}
	if b.by > 0 && at(s.promotedAt, 0.99) > b.by {
		out = append(out, "99% promoted by "+count(at(s.promotedAt, 0.99)))
	}
	if b.median > 0 && at(s.backAt, 0.5) > b.median {
		out = append(out, "median "+count(at(s.backAt, 0.5)))
	}
	if b.last > 0 && at(s.backAt, 1) > b.last {
		out = append(out, "last "+count(at(s.backAt, 1)))
	}
	return out
}

func (b bar) String() string {
	var out []string
	if b.back > 0 {
		out = append(out, "back ≤ "+percent(b.back))
	}
	if b.promoted > 0 {
		out = append(out, "promoted ≤ "+percent(b.promoted))
	}
	if b.by > 0 {
		out = append(out, "99% promoted by "+count(b.by))
	}
	if b.median > 0 {
		out = append(out, "median ≤ "+count(b.median))
	}
	if b.last > 0 {
		out = append(out, "all by "+count(b.last))
	}
	if out == nil {
		return "measured"
	}
	return strings.Join(out, ", ")
}

const heading = `| rollout | times | taken back | after, median / p95 | promoted | after, median / p99 | bar | met | thresholds: back, median | Mann–Whitney: back, median |
|---|---|---|---|---|---|---|---|---|---|
`

// start is how a row's line begins.
func start(r row) string { return "| " + r.name + " | " }

// line writes a row of the table, and tells whether the bar was met.
func line(r row, results []result) (string, bool) {
	j := sum(results, func(r result) verdict { return r.judge })
	misses := r.bar.misses(j)
	met := "yes"
	switch {
	case r.bar == bar{}:
		met = ""
	case misses != nil:
		met = "NO: " + strings.Join(misses, ", ")
	}
	cells := []string{
		count(len(results)), percent(j.back), pair(j.backAt, 0.95), percent(j.promoted), pair(j.promotedAt, 0.99),
		r.bar.String(), met,
		peerCell(r, results, func(r result) verdict { return r.thresholds }),
		peerCell(r, results, func(r result) verdict { return r.mannWhitney }),
	}
	return start(r) + strings.Join(cells, " | ") + " |\n", misses == nil
}

func peerCell(r row, results []result, of func(result) verdict) string {
	if r.alone {
		return ""
	}
	s := sum(results, of)
	if s.back < 0.5 {
		return percent(s.back)
	}
	return percent(s.back) + ", " + count(at(s.backAt, 0.5))
}

// pair gives the median and another quantile.
func pair(sorted []int, q float64) string {
	if at(sorted, 0.5) == never {
		return ""
	}
	return count(at(sorted, 0.5)) + " / " + count(at(sorted, q))
}

func percent(share float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.2f", 100*share), ".00") + "%"
}

func count(n int) string {
	if n == never {
		return "–"
	}
	text := strconv.Itoa(n)
	if len(text) > 3 {
		text = text[:len(text)-3] + "," + text[len(text)-3:]
	}
	return text
}
