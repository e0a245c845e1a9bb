// Package report finds out what a program's output says of tests: which failed, and where. It reads
// what `go test -json` and `go test` print, the Test Anything Protocol, and JUnit's XML files.
package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Bounds of a report.
const (
	maxFailures = 200
	maxMessage  = 4 << 10 // bytes
	maxOpen     = 10_000  // tests whose output is kept until they end
)

// Reader reads along with a program's output, line by line. It is not safe for concurrent use.
type Reader struct {
	report  maru.TestReport
	output  map[string]*strings.Builder // of Go tests under way, by package and name
	current string                      // the Go test whose output go test -v prints
	pending *maru.TestResult            // a failure whose details are still to come
	plan    bool                        // TAP's
}

// NewReader begins.
func NewReader() *Reader { return &Reader{output: map[string]*strings.Builder{}} }

// Report gives what was found, nil if nothing was.
func (r *Reader) Report() *maru.TestReport {
	r.closePending()
	if r.report.Format == "" {
		return nil
	}
	return &r.report
}

// Line takes a line.
func (r *Reader) Line(line string) {
	switch {
	case strings.HasPrefix(line, `{"`) && strings.Contains(line, `"Action":`):
		r.goJSON(line)
	case strings.HasPrefix(line, "=== ") && r.goStep(line):
	case strings.HasPrefix(strings.TrimLeft(line, " "), "--- ") && r.goText(line):
	case r.tap(line):
	default:
		r.detail(line)
	}
}

// event is a line of go test -json, as `go doc test2json` describes it.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

func (r *Reader) goJSON(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Package == "" {
		return
	}
	r.report.Format = "go"
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output":
		if !strings.HasPrefix(strings.TrimLeft(e.Output, " "), "=== ") {
			r.keep(key, e.Output)
		}
	case "pass", "fail", "skip":
		text := r.kept(key)
		if e.Test == "" {
			r.report.Time += time.Duration(e.Elapsed * float64(time.Second))
			if e.Action == "fail" && text != "" && !r.failedIn(e.Package) {
				r.fail(maru.TestResult{Suite: e.Package, Name: "(build or setup)", Message: strings.TrimSpace(text)})
			}
			return
		}
		r.count(e.Action, maru.TestResult{Suite: e.Package, Name: e.Test, Message: strings.TrimSpace(text)})
	}
}

// keep adds to what a Go test said.
func (r *Reader) keep(key, text string) {
	b := r.output[key]
	if b == nil {
		if len(r.output) >= maxOpen {
			return
		}
		b = &strings.Builder{}
		r.output[key] = b
	}
	if b.Len() < maxMessage {
		b.WriteString(text)
	}
}

// kept gives what a Go test said, and forgets it.
func (r *Reader) kept(key string) string {
	b := r.output[key]
	if b == nil {
		return ""
	}
	delete(r.output, key)
	return b.String()
}

func (r *Reader) failedIn(suite string) bool {
	for _, t := range r.report.Tests {
		if t.Suite == suite {
			return true
		}
	}
	return false
}

func (r *Reader) count(action string, t maru.TestResult) {
	switch action {
	case "pass":
		r.report.Passed++
	case "skip":
		r.report.Skipped++
	default:
		r.fail(t)
	}
}

var goPlace = regexp.MustCompile(`(?m)^\s*([\w./-]+\.\w+):(\d+):`)

// fail counts a failure, and finds its place in its message.
func (r *Reader) fail(t maru.TestResult) {
	r.report.Failed++
	if len(r.report.Tests) >= maxFailures {
		return
	}
	if m := goPlace.FindStringSubmatch(t.Message); t.File == "" && m != nil {
		t.File = m[1]
		t.Line, _ = strconv.Atoi(m[2])
	}
	if len(t.Message) > maxMessage {
		t.Message = strings.ToValidUTF8(t.Message[:maxMessage], "")
	}
	r.report.Tests = append(r.report.Tests, t)
}

var goStep = regexp.MustCompile(`^=== (RUN|CONT|NAME|PAUSE)\s+(\S+)$`)

// goStep reads whose output go test -v prints from here on.
func (r *Reader) goStep(line string) bool {
	m := goStep.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	r.closePending()
	r.current = m[2]
	return true
}

var goResult = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(([\d.]+)s\)`)

// goText reads a result of go test without -json; only failures are sure to be printed.
func (r *Reader) goText(line string) bool {
	m := goResult.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	r.closePending()
	r.report.Format, r.current = "go", ""
	said := r.kept("\x00" + m[2])
	if m[1] == "FAIL" {
		r.pending = &maru.TestResult{Name: m[2], Message: said}
		return true
	}
	r.count(strings.ToLower(m[1]), maru.TestResult{Name: m[2]})
	return true
}

var tapResult = regexp.MustCompile(`^(not )?ok\b(?:\s+(\d+))?(?:\s+-)?\s*([^#]*)(?:#\s*(\w+)?.*)?$`)

// tap reads a line of the Test Anything Protocol (testanything.org), once its version or plan was seen.
func (r *Reader) tap(line string) bool {
	if strings.HasPrefix(line, "TAP version 1") || regexp.MustCompile(`^1\.\.\d+`).MatchString(line) {
		r.plan = true
		if r.report.Format == "" {
			r.report.Format = "tap"
		}
		return true
	}
	m := tapResult.FindStringSubmatch(line)
	if m == nil || !r.plan && m[2] == "" {
		return false
	}
	if !r.plan && r.report.Format == "" && m[2] != "1" {
		return false // a sentence that begins with ok, and not the first of some tests
	}
	r.closePending()
	r.plan, r.report.Format = true, "tap"
	directive := strings.ToUpper(m[4])
	name := strings.TrimSpace(m[3])
	switch {
	case strings.HasPrefix(directive, "SKIP"), strings.HasPrefix(directive, "TODO"):
		r.report.Skipped++
	case m[1] == "":
		r.report.Passed++
	default:
		if name == "" {
			name = "test " + m[2]
		}
		r.pending = &maru.TestResult{Name: name}
	}
	return true
}

// detail adds a line to the failure that it comes after.
func (r *Reader) detail(line string) {
	if r.current != "" {
		r.keep("\x00"+r.current, line+"\n")
		return
	}
	if r.pending == nil {
		return
	}
	if line != "" && line[0] != ' ' && line[0] != '#' && line[0] != '\t' {
		r.closePending()
		return
	}
	if len(r.pending.Message) < maxMessage {
		r.pending.Message += strings.TrimPrefix(line, "#") + "\n"
	}
}

var yamlPlace = regexp.MustCompile(`(?m)^\s*(?:location|at):\s*'?(?:file://)?([^:'\s]+):(\d+)`)

func (r *Reader) closePending() {
	if r.pending == nil {
		return
	}
	t := *r.pending
	r.pending = nil
	if m := yamlPlace.FindStringSubmatch(t.Message); m != nil {
		t.File = m[1]
		t.Line, _ = strconv.Atoi(m[2])
	}
	t.Message = strings.TrimSpace(t.Message)
	r.fail(t)
}

// suite is an element of JUnit's XML: testsuites, testsuite.
type suite struct {
	Name   string  `xml:"name,attr"`
	File   string  `xml:"file,attr"`
	Time   string  `xml:"time,attr"`
	Suites []suite `xml:"testsuite"`
	Cases  []struct {
		Name    string    `xml:"name,attr"`
		Class   string    `xml:"classname,attr"`
		File    string    `xml:"file,attr"`
		Line    int       `xml:"line,attr"`
		Failure []problem `xml:"failure"`
		Error   []problem `xml:"error"`
		Skipped *struct{} `xml:"skipped"`
	} `xml:"testcase"`
}

type problem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// maxDepth bounds how deep suites may be nested.
const maxDepth = 16

// JUnit reads a file of JUnit's XML.
func JUnit(file io.Reader) (*maru.TestReport, error) {
	dec := xml.NewDecoder(file)
	dec.Entity = map[string]string{}
	var root suite
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, maru.Errorf(maru.Invalid, "the file is empty")
		}
		return nil, maru.Errorf(maru.Invalid, "this is not JUnit's XML: %w", err)
	}
	r := NewReader()
	r.report.Format = "junit"
	r.suite(root, 0)
	return &r.report, nil
}

func (r *Reader) suite(s suite, depth int) {
	if depth > maxDepth {
		return
	}
	if seconds, err := strconv.ParseFloat(s.Time, 64); err == nil && seconds > 0 && seconds < 1e7 && len(s.Cases) > 0 {
		r.report.Time += time.Duration(seconds * float64(time.Second))
	}
	for _, c := range s.Cases {
		bad := append(c.Failure, c.Error...)
		switch {
		case len(bad) > 0:
			t := maru.TestResult{Suite: c.Class, Name: c.Name, File: c.File, Line: c.Line, Message: strings.TrimSpace(bad[0].Message)}
			if t.Suite == "" {
				t.Suite = s.Name
			}
			if t.File == "" {
				t.File = s.File
			}
			if text := strings.TrimSpace(bad[0].Text); text != "" && text != t.Message {
				t.Message = strings.TrimSpace(t.Message + "\n" + text)
			}
			r.fail(t)
		case c.Skipped != nil:
			r.report.Skipped++
		default:
			r.report.Passed++
		}
	}
	for _, below := range s.Suites {
		r.suite(below, depth+1)
	}
}

// IsJUnit tells by its name whether a file may be of JUnit's XML.
func IsJUnit(name string) bool {
	base := strings.ToLower(path.Base(name))
	return path.Ext(base) == ".xml" && (strings.HasPrefix(base, "test-") || strings.HasPrefix(base, "junit") || strings.Contains(base, "test-results") || strings.Contains(base, "testresults"))
}

// Merge adds one report to another.
func Merge(into *maru.TestReport, other *maru.TestReport) {
	into.Passed += other.Passed
	into.Failed += other.Failed
	into.Skipped += other.Skipped
	into.Time += other.Time
	into.Tests = append(into.Tests, other.Tests[:min(len(other.Tests), maxFailures-min(maxFailures, len(into.Tests)))]...)
}
