// Command judge plays rollouts on simulated traffic and holds the judge of canaries (plan/judge) to its
// bars, beside what today's tools would have done with the same requests. "make judge" runs it and
// writes the table into docs/judge.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// The table stands between these lines of the page.
const (
	begin = "<!-- table: written by make judge -->\n"
	end   = "<!-- end of the table -->\n"
)

func main() {
	rollouts := flag.Int("rollouts", 10000, "rollouts in each row")
	only := flag.String("only", "", "only the rows whose name has this in it")
	page := flag.String("page", "", "the page to write the table into")
	flag.Parse()
	missed, lines := 0, map[string]string{}
	first := time.Now()
	for _, r := range table() {
		if !strings.Contains(r.name, *only) {
			continue
		}
		began := time.Now()
		text, met := line(r, r.run(*rollouts))
		fmt.Printf("%5.1fs %s", time.Since(began).Seconds(), text)
		lines[r.name] = text
		if !met {
			missed++
		}
	}
	if *page != "" {
		if err := write(*page, lines); err != nil {
			fmt.Fprintln(os.Stderr, "judge:", err)
			os.Exit(1)
		}
	}
	fmt.Printf("judge: %d rows of %d rollouts in %s, %d miss their bar\n", len(lines), *rollouts, time.Since(first).Round(time.Second), missed)
	if missed > 0 {
		os.Exit(1)
	}
}

// write puts the lines, by the rows' names, into the table of the page. Rows that have none keep the line
// that they have there.
func write(page string, lines map[string]string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(old), begin)
	before, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no place for the table: the lines %q and %q", page, strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	text := heading
	for _, r := range table() {
		switch _, kept, found := strings.Cut(before, "\n"+start(r)); {
		case lines[r.name] != "":
			text += lines[r.name]
		case found:
			kept, _, _ = strings.Cut(kept, "\n")
			text += start(r) + kept + "\n"
		}
	}
	return os.WriteFile(page, []byte(head+begin+"\n"+text+"\n"+end+tail), 0o644)
}
