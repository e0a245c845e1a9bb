package runner

import (
	"encoding/base64"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestMasks(t *testing.T) {
	const secret = "p@ss w0rd/äö+\"x\""
	m := &Masks{}
	m.Add(secret)
	m.Add("one line\r\nand another one\n")
	m.Add("")
	m.Add(" \n")
	hidden := map[string]string{"plain": secret, "query": url.QueryEscape(secret), "path": url.PathEscape(secret), "line": "and another one", "json": `p@ss w0rd/äö+\"x\"`}
	for _, before := range []string{"", "a", "ab", "abc"} {
		for _, after := range []string{"", "z", "yz"} {
			hidden["base64 "+before+"|"+after] = base64.StdEncoding.EncodeToString([]byte(before + secret + after))
			hidden["base64url "+before+"|"+after] = base64.RawURLEncoding.EncodeToString([]byte(before + secret + after))
		}
	}
	for name, text := range hidden {
		got := m.Replace("<" + text + ">")
		// The characters that are shared with what stands beside it may stay.
		if !strings.Contains(got, masked) || len(got) > len(masked)+12 {
			t.Errorf("%s: %s becomes %s", name, text, got)
		}
	}
	if got := m.Replace("nothing of it"); got != "nothing of it" {
		t.Errorf("%q", got)
	}
}

// TestLines: lines come whole however the stream is cut, and no secret is shown across a cut.
func TestLines(t *testing.T) {
	m := &Masks{}
	secret := strings.Repeat("s3cret", 20)
	m.Add(secret)
	long := strings.Repeat("x", maxLine-50) + secret + strings.Repeat("y", maxLine)
	text := "one\r\n\ntwo\xff\n" + long + "\nlast"
	for _, size := range []int{1, 7, 1000, 64 << 10, len(text)} {
		var mu sync.Mutex
		var got []string
		var shown strings.Builder
		l := &lines{mu: &mu, masks: m, take: func(line string, begins bool) {
			line = m.Replace(line)
			if begins {
				got = append(got, line)
			} else {
				got[len(got)-1] += line
			}
			shown.WriteString(line)
		}}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			_, _ = l.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		l.Close()
		want := []string{"one", "", "two\uFFFD", m.Replace(long), "last"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("in pieces of %d: %d lines of %d bytes, want %d", size, len(got), len(strings.Join(got, "\n")), len(strings.Join(want, "\n")))
		}
		if strings.Contains(shown.String(), "s3crets3cret") {
			t.Errorf("in pieces of %d a part of the secret is shown", size)
		}
	}
}

func TestParsePairs(t *testing.T) {
	for text, want := range map[string]string{
		"a=1\nb=x=y\n": "a:1 b:x=y", "a<<E\n1\n2\nE\nb=": "a:1\n2 b:", "\n\r\na=1\r\n": "a:1", "a<<E<<F\nx\nE<<F": "a:x",
		"a=1<<2": "a:1<<2", "a<<E\nE": "a:", "a<<E\nx": "error", "nonsense": "error", "=x": "error", "a<<": "error", "\uFEFFa=1": "a:1",
	} {
		pairs, err := parsePairs(text)
		var got []string
		for _, p := range pairs {
			got = append(got, p[0]+":"+p[1])
		}
		if err != nil {
			got = []string{"error"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestSatisfies(t *testing.T) {
	for _, c := range []struct {
		has, wanted string
		want        bool
	}{
		{"1.26.8", "1.26", true}, {"1.26.8", "1.26.x", true}, {"1.25.3", "1.26", false}, {"1.26.8", ">=1.25", true}, {"1.26.8", ">= 1.27", false},
		{"1.26.8", "^1.25.0", true}, {"20.11.1", "20", true}, {"20.11.1", "^18 || ^20", true}, {"20.11.1", "18.x", false}, {"20.11.1", "lts/*", true},
		{"3.12.1", "3.1", false}, {"3.12.1", "3.x", true}, {"3.12.1", "~3.12.0", true}, {"3.12.1", "~=3.11", false}, {"17.0.9", "17", true}, {"17.0.9", "", true},
		{"1.26.8", "stable", true}, {"20.11.1", ">=18 <21", true}, {"20.11.1", ">=18 <20", false}, {"20.11.1", "18 - 20", true}, {"20.11.1", "<=20", true},
		{"0.3.4", "^0.3.1", true}, {"0.4.0", "^0.3.1", false}, {"1.26", "1.26.0", false}, {"20.11.1", ">20", false},
	} {
		if got := satisfies(c.has, c.wanted); got != c.want {
			t.Errorf("%s for %s: %v", c.has, c.wanted, got)
		}
	}
	for name, c := range map[string][2]string{
		"go.mod": {"module x\n\ngo 1.26.8\n", ">=1.26.8"}, ".nvmrc": {"v20.1\n", "20.1"}, "package.json": {`{"engines": {"node": ">=18"}}`, ">=18"},
		".tool-versions": {"ruby 3\nnodejs 20.1.0\n", "20.1.0"}, "pyproject.toml": {"[project]\nrequires-python = \">=3.10,<4\"\n", ">=3.10 <4"}, ".java-version": {"17", "17"},
	} {
		if got := versionIn(name, c[0]); got != c[1] {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add("::error file=a,line=1::b%0A", "a<<E\nb\nE\nc=d")
	f.Fuzz(func(t *testing.T, line, file string) {
		if c, ok := parseCommand(line); ok && c.name == "" {
			t.Fatal("a command without a name")
		}
		_, _ = parsePairs(file)
		satisfies("1.2.3", line)
	})
}

func FuzzMasks(f *testing.F) {
	f.Add("secret", "a secret in a text", 3)
	f.Fuzz(func(t *testing.T, secret, text string, at int) {
		m := &Masks{}
		m.Add(secret)
		if len(strings.TrimSpace(secret)) > 3 && !strings.Contains(masked, secret) && strings.Contains(m.Replace(text), secret) && !strings.Contains(secret, "*") {
			t.Fatalf("%q is shown", secret)
		}
		if n := m.cut(text); n < 0 || n > len(text) || n < len(text) && utf8.ValidString(text) && !utf8.RuneStart(text[n]) {
			t.Fatalf("cut at %d of %d", n, len(text))
		}
	})
}
