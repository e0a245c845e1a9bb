package compose

import (
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/template"
)

func lookupOf(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := env[name]; return value, ok }
}

var templateEnv = map[string]string{"SET": "value", "EMPTY": "", "NAME": "SET", "_x1": "under"}

func TestSubstitute(t *testing.T) {
	for _, c := range []struct{ text, want, fault string }{
		{"plain", "plain", ""},
		{"$SET and ${SET}", "value and value", ""},
		{"$$SET $$$$ $ 5$ $1", "$SET $$ $ 5$ $1", ""},
		{"a${_x1}b$_x1-c", "aunderbunder-c", ""},
		{"${EMPTY}|${EMPTY-d}|${EMPTY:-d}", "||d", ""},
		{"${NONE-d}|${NONE:-d}|${NONE-}", "d|d|", ""},
		{"${SET+a}|${SET:+a}|${EMPTY+a}|${EMPTY:+a}|${NONE+a}|${NONE:+a}", "a|a|a|||", ""},
		{"${SET?m}${SET:?m}${EMPTY?m}", "valuevalue", ""},
		{"${NONE:-${EMPTY:-${SET}}}!", "value!", ""},
		{"${NONE:-a:b-c?d+e}", "a:b-c?d+e", ""},
		{`${NONE:-{"a": {"b": 1}}}`, `{"a": {"b": 1}}`, ""},
		{"${NONE:?it is ${SET}}", "", "the variable NONE is required and has no value: it is value"},
		{"${EMPTY:?}", "", "the variable EMPTY is required and has no value"},
		{"x ${", "x ", `"${" is not a variable`},
		{"${}", "", `"${}" is not a variable`},
		{"${1A}", "", `"${1A}" is not a variable`},
		{"${SET!x}", "", `"${SET!x}" is not a variable`},
		{"${SET:}", "", `"${SET:}" is not a variable`},
	} {
		got, faults := substitute(c.text, lookupOf(templateEnv))
		fault := ""
		for _, f := range faults {
			if !f.unset {
				fault = f.message
			}
		}
		if got != c.want || fault != c.fault {
			t.Errorf("%q gives %q and %q; want %q and %q", c.text, got, fault, c.want, c.fault)
		}
	}
}

func TestSubstituteFindsEveryFault(t *testing.T) {
	text := "a ${A:?} $B ${C:-${D}} ${}"
	_, faults := substitute(text, lookupOf(nil))
	var found []string
	for _, f := range faults {
		if !strings.HasPrefix(text[f.offset:], "$") {
			t.Errorf("the place %d of %s is not that of a variable", f.offset, f.name)
		}
		found = append(found, text[f.offset:min(f.offset+4, len(text))])
	}
	if got := strings.Join(found, " "); got != "${A: $B $ ${D} ${}" {
		t.Errorf("found %s", got)
	}
}

func TestSubstituteIsBounded(t *testing.T) {
	text := strings.Repeat("${A:-", 100_000) + strings.Repeat("}", 100_000)
	if _, faults := substitute(text, lookupOf(nil)); len(faults) == 0 {
		t.Error("there is no end to defaults within defaults")
	}
}

// FuzzSubstitute holds substitute against compose-go's. Where compose-go finds the text well formed and
// there is no brace in it that belongs to no variable, both give the same.
func FuzzSubstitute(f *testing.F) {
	for _, seed := range []string{"$SET", "${SET}", "$$", "${NONE:-d}", "${EMPTY:+x}", "a${NONE:-${SET}}b", "${NONE:?m}", "${", "$1", "${SET:-x}${SET}", "${NONE-$$x}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, faults := substitute(text, lookupOf(templateEnv))
		if strings.Count(text, "{") != strings.Count(text, "${") || strings.Count(text, "}") != strings.Count(text, "{") ||
			strings.ContainsAny(text, "\n") || strings.Contains(text, "$$") || strings.Count(text, "{") > 1 {
			return
		}
		for _, fault := range faults {
			if !fault.unset {
				return
			}
		}
		lookup := func(name string) (string, bool) { return lookupOf(templateEnv)(name) }
		want, err := template.SubstituteWithOptions(text, lookup, template.WithoutLogging)
		if err == nil && got != want {
			t.Errorf("%q gives %q, and with compose-go %q", text, got, want)
		}
	})
}
