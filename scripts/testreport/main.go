// Command testreport reads the output of one or more "go test -json" from its standard input, shows
// each package's result, the output of what failed and which tests took longest, and ends with a count
// of the tests that ran.
// It fails when a test failed, a package did not build, or no test ran.
//
// With -failed FILE it also writes there what failed, a line each: the package, and the test if it was
// one. Tests within tests are left out.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

type report struct {
	passed, failed, skipped int
	output                  map[string][]string // of tests and packages not yet known to have passed
	broken                  []string
	took                    []timed // of tests that are not within others
	out                     io.Writer
}

type timed struct {
	name    string
	seconds float64
}

// longest is how many tests are named with the time that they took.
const longest = 15

func main() {
	failed := flag.String("failed", "", "write what failed to this file")
	flag.Parse()
	r := &report{output: map[string][]string{}, out: os.Stdout}
	err := r.read(os.Stdin)
	if err == nil && *failed != "" {
		err = os.WriteFile(*failed, []byte(r.rerun()), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	slices.SortFunc(r.took, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, test := range r.took[:min(longest, len(r.took))] {
		fmt.Fprintf(r.out, "took %6.1fs %s\n", test.seconds, test.name)
	}
	for _, name := range r.broken {
		fmt.Fprintln(r.out, "FAILED", name)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if len(r.broken) > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

// rerun names what failed. A package is named alone when no test of it did.
func (r *report) rerun() string {
	var lines strings.Builder
	for _, name := range r.broken {
		pkg, test, isTest := strings.Cut(name, " ")
		inner := strings.Contains(test, "/")
		alone := !isTest && !slices.ContainsFunc(r.broken, func(other string) bool { return strings.HasPrefix(other, pkg+" ") })
		if isTest && !inner || alone {
			lines.WriteString(name + "\n")
		}
	}
	return lines.String()
}

func (r *report) read(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	key := strings.TrimSuffix(e.Package+" "+e.Test, " ")
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "build-fail":
		r.broken = append(r.broken, e.ImportPath+" (build)")
	case "pass", "skip":
		delete(r.output, key)
		switch {
		case e.Test == "":
			if e.Action == "pass" {
				fmt.Fprintf(r.out, "ok   %6.1fs %s\n", e.Elapsed, e.Package)
			}
		case e.Action == "pass":
			r.passed++
			if !strings.Contains(e.Test, "/") {
				r.took = append(r.took, timed{key, e.Elapsed})
			}
		default:
			r.skipped++
		}
	case "fail":
		fmt.Fprint(r.out, strings.Join(r.output[key], ""))
		delete(r.output, key)
		r.broken = append(r.broken, key)
		if e.Test != "" {
			r.failed++
		}
	}
}
