package expr

import (
	"errors"
	"strings"
	"testing"
)

func testEnv() *Env {
	object, err := FromJSON(`{
		"github": {"ref": "refs/heads/main", "event": {"commits": [{"id": "a", "files": ["x", "y"]}, {"id": "b", "files": []}, {"nothing": 1}]}, "event_name": "push"},
		"matrix": {"go": 1.26, "os": "linux", "flags": {"race": true, "short": false}},
		"env": {"EMPTY": "", "N": "3", "Hex": "0xff"},
		"steps": {"one": {"outputs": {"v": "1"}}, "two": {"outputs": {"v": "2"}}},
		"inputs": {}
	}`)
	if err != nil {
		panic(err)
	}
	return &Env{Contexts: object.(*Object), Status: Status{Success: true}, HashFiles: func(p []string) (string, error) {
		return "hash:" + strings.Join(p, "|"), nil
	}}
}

func TestEval(t *testing.T) {
	for source, want := range map[string]string{
		// Literals, and what they are as text.
		`null`: "", `true`: "true", `711`: "711", `-9.2`: "-9.2", `0xff`: "255", `-2.99e-2`: "-0.0299", `'it''s'`: "it's",
		`1e20`: "1E+20", `0.1`: "0.1", `100000000000000.0`: "100000000000000",
		// Coercion to numbers.
		`'' == 0`: "true", `null == 0`: "true", `true == 1`: "true", `'0xff' == 255`: "true", `'0o17' == 15`: "true",
		`'abc' == 0`: "false", `'1e2' == 100`: "true", `' 12 ' == 12`: "true", `null == ''`: "true", `false == ''`: "true",
		`null == false`: "true", `'Infinity' == 'infinity'`: "true", `'1_0' == 10`: "false",
		// Texts are compared without regard to case.
		`'ABC' == 'abc'`: "true", `'a' < 'B'`: "true", `'b' > 'A'`: "true", `'' < 1`: "true", `'x' < 1`: "false", `'x' > 1`: "false",
		`null > null`: "false", `null >= null`: "true", `true > false`: "true", `'10' > 9`: "true", `'10' > '9'`: "false",
		`1 != 2`: "true", `2 <= 2`: "true",
		// Arrays and objects equal themselves only.
		`github.event == github.event`: "true", `fromJSON('[1]') == fromJSON('[1]')`: "false", `github.event == 'Object'`: "false",
		`github.event < 1`: "false",
		// Operators give operands.
		`'a' && 'b'`: "b", `'' || 'b'`: "b", `0 && 'b'`: "0", `github.ref == 'refs/heads/main' && 'prod' || 'dev'`: "prod",
		`!''`: "true", `!github`: "false", `true || fromJSON('x')`: "true", `(1 == 1) == true`: "true",
		// Access.
		`GITHUB.Ref`: "refs/heads/main", `github['REF']`: "refs/heads/main", `github.nothing.at.all`: "", `matrix.go`: "1.26",
		`github.event.commits[1].id`: "b", `github.event.commits[9]`: "", `github.event.commits['0'].id`: "a", `github.event.commits[0.9].id`: "a",
		`github.ref.x`: "", `env['n']`: "3", `matrix[format('o{0}', 's')]`: "linux",
		// Filters.
		`join(github.event.commits.*.id)`: "a,b", `join(github.event.commits.*.files.*, '+')`: "x+y", `join(steps.*.outputs.v, '')`: "12",
		`toJSON(github.event.commits.*.files)`: "[\n  [\n    \"x\",\n    \"y\"\n  ],\n  []\n]", `join(github.event.commits.*.files[0])`: "x",
		`join(github.ref.*)`: "", `contains(github.event.commits.*.id, 'B')`: "true",
		// Functions.
		`contains('Hello', 'LL')`: "true", `contains('x', '')`: "true", `contains(fromJSON('["1", 2]'), 2)`: "true", `contains(fromJSON('[1]'), '1')`: "true",
		`contains(github, 'ref')`: "false", `startsWith('Hello', 'he')`: "true", `endsWith('Hello', 'LO')`: "true", `startsWith(123, 12)`: "true",
		`format('{0} {{{1}}} {0}', 'a', null)`: "a {} a", `join('x', ',')`: "x", `join(fromJSON('[1,true,null,"s"]'), ', ')`: "1, true, , s",
		`toJSON(matrix.flags)`: "{\n  \"race\": true,\n  \"short\": false\n}", `toJSON('<&"')`: `"<&\""`, `fromJSON('{"A": {"b": [0, 5]}}').a.b[1]`: "5",
		`fromJSON('null')`: "", `hashFiles('**/go.sum', 'x')`: "hash:**/go.sum|x", `success()`: "true", `always()`: "true", `failure()`: "false", `cancelled()`: "false",
		`case(false, 1, true, 2, 3)`: "2", `case(false, fromJSON('x'), 3)`: "3", `toJSON(fromJSON('{"z":1,"a":2}'))`: "{\n  \"z\": 1,\n  \"a\": 2\n}",
	} {
		e, err := Parse(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		v, err := e.Eval(testEnv())
		if err != nil || String(v) != want {
			t.Errorf("%s = %q, %v; want %q", source, String(v), err, want)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	for source, want := range map[string]string{
		`secrets.x`:           "context secrets is not available",
		`fromJSON('{')`:       "ends too soon",
		`fromJSON('1 2')`:     "something follows",
		`fromJSON('')`:        "ends too soon",
		`format('{1}', 'a')`:  "asks for argument 1",
		`format('{a}')`:       "no number",
		`format('}')`:         "a } of its own",
		`contains('x')`:       "2 arguments at least",
		`join('a', 'b', 'c')`: "2 arguments at most",
		`nothing()`:           "no function",
		`case(true, 1)`:       "3 arguments at least",
		strings.Repeat("toJSON(", 40) + "github" + strings.Repeat(")", 40): "10 MiB",
	} {
		e, err := Parse(source)
		if err == nil {
			_, err = e.Eval(testEnv())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", source, err, want)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for source, place := range map[string][2]int{
		"a ${{ b":                     {1, 8},
		"x\n  ${{ 'a }}":              {2, 12},
		"${{ \"double\" }}":           {1, 5},
		"${{ }}":                      {1, 5},
		"${{ a b }}":                  {1, 7},
		"${{ 'ok' }} and\n ${{ == }}": {2, 6},
	} {
		_, err := ParseText(source)
		e, ok := errors.AsType[*SyntaxError](err)
		if !ok {
			t.Errorf("%q: %v", source, err)
			continue
		}
		if e.Line != place[0] || e.Column != place[1] {
			t.Errorf("%q: at %d:%d, want %d:%d: %s", source, e.Line, e.Column, place[0], place[1], e.Message)
		}
	}
}

func TestText(t *testing.T) {
	for source, want := range map[string]string{
		"plain": "plain", "": "", "a${{ 1 }}b${{ 'x}}y' }}": "a1bx}}y", "${{github.ref}}": "refs/heads/main",
		"${{ matrix }} $ {{ }}": "Object $ {{ }}",
	} {
		text, err := ParseText(source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
			continue
		}
		if got, err := text.Eval(testEnv()); err != nil || got != want {
			t.Errorf("%q = %q, %v; want %q", source, got, err, want)
		}
	}
}

func TestCondition(t *testing.T) {
	for source, want := range map[string][3]bool{ // when all is well, after a failure, after cancellation
		"":                                       {true, false, false},
		"true":                                   {true, false, false},
		"always()":                               {true, true, true},
		"failure()":                              {false, true, false},
		"!cancelled()":                           {true, true, false},
		"cancelled()":                            {false, false, true},
		"${{ github.ref == 'refs/heads/main' }}": {true, false, false},
		"github.ref == 'x' || failure()":         {false, true, false},
		"${{ false }} == true":                   {true, false, false}, // text: always true
		"always() && false":                      {false, false, false},
		"${{ 'x' }}":                             {true, false, false},
		"matrix.flags.short":                     {false, false, false},
	} {
		c, err := ParseCondition(source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
			continue
		}
		for i, status := range []Status{{Success: true}, {Failure: true}, {Cancelled: true}} {
			env := testEnv()
			env.Status = status
			if got, err := c.Holds(env); err != nil || got != want[i] {
				t.Errorf("%q with %+v = %v, %v; want %v", source, status, got, err, want[i])
			}
		}
	}
	if c, _ := ParseCondition("${{ a }} == b"); !c.Mixed() {
		t.Error("a condition of text and an expression is not told from others")
	}
}

func TestNames(t *testing.T) {
	e, err := Parse("SECRETS.a || secrets['B'] || contains(github.event.x, env.y)")
	if err != nil {
		t.Fatal(err)
	}
	contexts, functions := e.Names()
	if len(contexts) != 4 || contexts[0].Name != "secrets" || len(functions) != 1 || functions[0].Args != 2 {
		t.Errorf("%v %v", contexts, functions)
	}
	if got := strings.Join(e.Properties("secrets"), " "); got != "a b" {
		t.Errorf("properties %q", got)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a ${{ github.ref }} b", "${{ format('{0}', fromJSON('[1]').*) }}", "${{ case(1 < 2, 'a', !b) }}", "${{ 0x1f && -1e3 }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		text, err := ParseText(source)
		if err != nil {
			if _, ok := errors.AsType[*SyntaxError](err); !ok {
				t.Fatalf("%T", err)
			}
			return
		}
		_, _ = text.Eval(testEnv())
		if c, err := ParseCondition(source); err == nil {
			_, _ = c.Holds(testEnv())
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"a": [1, null, {"b": "c"}]}`)
	f.Fuzz(func(t *testing.T, source string) {
		v, err := FromJSON(source)
		if err != nil {
			return
		}
		text, err := ToJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second, _ := ToJSON(again); second != text {
			t.Fatalf("%s is not %s", second, text)
		}
	})
}
