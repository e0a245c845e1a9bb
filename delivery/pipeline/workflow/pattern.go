package workflow

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"
)

// compilePattern reads a filter pattern as GitHub describes them ("Filter pattern cheat sheet"): *
// stands for any characters but a slash, ** for any at all, ? and + say how often the character
// before comes, [] is one of some characters, \ takes a special character as it is, and ! at the
// beginning is for whoever combines patterns.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	pattern = strings.TrimPrefix(pattern, "!")
	if pattern == "" {
		return nil, errors.New("it is empty")
	}
	var out strings.Builder
	out.WriteString(`\A`)
	repeatable := false // the character before can have a ? or + after it
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch c {
		case '*':
			switch {
			case strings.HasPrefix(pattern[i:], "**/") && (i == 0 || pattern[i-1] == '/'):
				out.WriteString(`(?:.*/)?`)
				i += 2
			case strings.HasPrefix(pattern[i:], "**"):
				out.WriteString(`.*`)
				i++
			default:
				out.WriteString(`[^/]*`)
			}
			repeatable = false
		case '?', '+':
			if !repeatable {
				return nil, errors.New(string(c) + " says how often the character before it comes, and there is none; write \\" + string(c) + " for the character itself")
			}
			out.WriteByte(c)
			repeatable = false
		case '[':
			end := strings.IndexByte(pattern[i:], ']')
			if end < 2 {
				return nil, errors.New("[ has no characters and ] after it")
			}
			set := strings.NewReplacer(`\`, `\\`, `^`, `\^`, `[`, `\[`).Replace(pattern[i+1 : i+end])
			out.WriteString("[" + set + "]")
			i += end
			repeatable = true
		case '\\':
			if i+1 < len(pattern) && strings.IndexByte(`[]?*+\!`, pattern[i+1]) >= 0 {
				i++
			}
			out.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
			repeatable = true
		default:
			_, size := utf8.DecodeRuneInString(pattern[i:])
			out.WriteString(regexp.QuoteMeta(pattern[i : i+size]))
			i += size - 1
			repeatable = true
		}
	}
	out.WriteString(`\z`)
	return regexp.Compile("(?s)" + out.String())
}

// matchPatterns tells whether the last pattern that speaks of the name, if any, takes it in: one that
// begins with ! takes it out again.
func matchPatterns(patterns []string, name string) bool {
	in := false
	for _, p := range patterns {
		re, err := compilePattern(p)
		if err == nil && re.MatchString(name) {
			in = !strings.HasPrefix(p, "!")
		}
	}
	return in
}
