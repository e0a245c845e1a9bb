package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every row with few rollouts, for the judge alone; "make judge" has the whole table.
func TestTheJudgeKeepsItsBars(t *testing.T) {
	rollouts := 300
	if testing.Short() {
		rollouts = 100
	}
	for _, r := range table() {
		t.Run(r.name, func(t *testing.T) {
			r.alone = true
			r.bar.by += r.bar.by / 4 // the 99th of a hundred is a rough figure where there are few
			if text, met := line(r, r.run(rollouts)); !met {
				t.Error(text)
			}
		})
	}
}

func TestRolloutsRepeat(t *testing.T) {
	r := table()[0]
	a, b := r.run(20), r.run(20)
	if !slices.Equal(a, b) {
		t.Fatal("the same rollouts had other results")
	}
	if a[0] == a[1] {
		t.Fatal("two rollouts are one")
	}
}

func TestRankSum(t *testing.T) {
	low, high := []int{1, 1, 1, 1, 1, 0, 0, 0, 0, 0}, []int{0, 0, 0, 0, 0, 1, 1, 1, 1, 1}
	if z := rankSum(low, high); math.Abs(z-12.5/math.Sqrt(25*11/12.0)) > 1e-9 {
		t.Errorf("five values above five others: %v", z)
	}
	if z := rankSum(low, low); z != 0 {
		t.Errorf("the same values: %v", z)
	}
	if z := rankSum([]int{50}, []int{50}); z != 0 {
		t.Errorf("only one value: %v", z)
	}
}

func TestBarsThatAreMissedAreNamed(t *testing.T) {
	s := side{back: 0.02, promoted: 0.03, backAt: []int{5, 11, never}, promotedAt: []int{never, never, never}}
	b := bar{back: 0.01, promoted: 0.01, by: 100, median: 10, last: 10}
	want := []string{"taken back 2%", "promoted 3%", "99% promoted by –", "median 11", "last –"}
	if got := b.misses(s); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (bar{}).misses(s); got != nil {
		t.Errorf("nothing is asked, but missed: %q", got)
	}
}

func TestTheTableIsPutInItsPlace(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+begin+end+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := start(table()[0]), start(table()[1])
	for _, step := range []struct{ row, text, want string }{
		{table()[1].name, b + "1 |\n", b + "1 |\n"},
		{table()[0].name, a + "2 |\n", a + "2 |\n" + b + "1 |\n"},
		{table()[1].name, b + "3 |\n", a + "2 |\n" + b + "3 |\n"},
	} {
		if err := write(page, map[string]string{step.row: step.text}); err != nil {
			t.Fatal(err)
		}
		want := "before\n" + begin + "\n" + heading + step.want + "\n" + end + "after\n"
		if got, _ := os.ReadFile(page); string(got) != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
	if err := os.WriteFile(page, []byte("no place"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(page, nil); err == nil || !strings.Contains(err.Error(), "no place for the table") {
		t.Errorf("%v", err)
	}
}

// The page has a line for each row, so that a new one is not forgotten there.
func TestThePageHasEveryRow(t *testing.T) {
	page, err := os.ReadFile("../../docs/judge.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table() {
		if !strings.Contains(string(page), "\n| "+r.name+" | ") {
			t.Errorf("docs/judge.md has no row %q: make judge writes it", r.name)
		}
	}
}
