package report

import (
	"fmt"
	"strings"
	"testing"
)

func TestReader(t *testing.T) {
	for name, c := range map[string]struct{ output, want string }{
		"nothing": {"building\nok, done\n1..\nnot ok with me\n", "<nil>"},
		"go -json": {`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:12: want 1\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"output","Package":"q","Output":"q.go:3:1: undefined: x\n"}
{"Action":"fail","Package":"q","Elapsed":0}`, "go 1 2 1 1.5s p/TestA a_test.go:12, q/(build or setup) q.go:3"},
		"go": {"=== RUN   TestA\n--- FAIL: TestA (0.00s)\n    a_test.go:7: no\n    --- FAIL: TestA/x (0.00s)\n        a_test.go:9: neither\n--- PASS: TestB (1.00s)\nFAIL\n", "go 1 2 0 0s /TestA a_test.go:7, /TestA/x a_test.go:9"},
		"go -v": {`=== RUN   TestA
=== RUN   TestA/x
    a_test.go:9: no
=== RUN   TestA/y
--- FAIL: TestA (0.00s)
    --- FAIL: TestA/x (0.00s)
    --- PASS: TestA/y (0.00s)
=== RUN   TestB
=== PAUSE TestB
=== RUN   TestC
=== CONT  TestB
=== NAME  TestC
    c_test.go:3: neither
=== NAME  TestB
    b_test.go:5: fine
--- PASS: TestB (0.00s)
--- FAIL: TestC (0.00s)
FAIL
`, "go 2 3 0 0s /TestA :0, /TestA/x a_test.go:9, /TestC c_test.go:3"},
		"tap":                  {"TAP version 13\n1..4\nok 1 - one\nnot ok 2 - two\n  ---\n  location: 'file:///w/t.js:5:1'\n  ...\nok 3 # SKIP not now\nnot ok 4 - four # TODO later\n", "tap 1 1 2 0s /two /w/t.js:5"},
		"tap, plan at the end": {"ok 1 a\nnot ok 2 b\n1..2\n", "tap 1 1 0 0s /b :0"},
	} {
		r := NewReader()
		for line := range strings.Lines(c.output) {
			r.Line(strings.TrimSuffix(line, "\n"))
		}
		if got := show(r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func show(r *Reader) string {
	report := r.Report()
	if report == nil {
		return "<nil>"
	}
	var tests []string
	for _, f := range report.Tests {
		tests = append(tests, fmt.Sprintf("%s/%s %s:%d", f.Suite, f.Name, f.File, f.Line))
	}
	return fmt.Sprintf("%s %d %d %d %s %s", report.Format, report.Passed, report.Failed, report.Skipped, report.Time, strings.Join(tests, ", "))
}

func TestJUnit(t *testing.T) {
	got, err := JUnit(strings.NewReader(`<?xml version="1.0"?><testsuites><testsuite name="s" time="0.5"><testcase name="a" classname="C"/>
<testcase name="b" classname="C" file="c.py" line="9"><failure message="no">at c.py</failure></testcase>
<testcase name="c"><skipped/></testcase><testsuite name="n"><testcase name="d"><error/></testcase></testsuite></testsuite></testsuites>`))
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprint(got.Passed, got.Failed, got.Skipped, got.Time, got.Tests); s != "1 2 1 500ms [{C b no\nat c.py c.py 9} {n d   0}]" {
		t.Errorf("%s", s)
	}
	for _, bad := range []string{"", "<a>", "x", `<!DOCTYPE x [<!ENTITY a "b">]><testsuite name="&a;"/>`} {
		if _, err := JUnit(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add("{\"Action\":\"fail\",\"Package\":\"p\",\"Test\":\"T\"}\nTAP version 13\nnot ok 1 - x\n  at: y:1\n--- FAIL: T (0.0s)")
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader()
		for line := range strings.Lines(text) {
			r.Line(line)
		}
		r.Report()
		_, _ = JUnit(strings.NewReader(text))
	})
}
