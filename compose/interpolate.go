package compose

import (
	"fmt"
	"strings"
)

// fault is something wrong with a variable in a value.
type fault struct {
	offset  int // in bytes, of the dollar sign
	name    string
	unset   bool // it has no value and becomes empty, which is a warning only
	message string
	hint    string
}

// substitute replaces $NAME, ${NAME} and the forms with a default, an alternative or a message as the
// Compose Specification says; $$ gives a dollar sign. It is compose-go's substitution, and does more
// than that in one point: it finds every fault, and says where.
func substitute(template string, lookup func(string) (string, bool)) (string, []fault) {
	s := substitution{lookup: lookup}
	return s.expand(template, 0), s.faults
}

// maxNesting bounds defaults within defaults.
const maxNesting = 50

type substitution struct {
	lookup func(string) (string, bool)
	faults []fault
	depth  int
}

func (s *substitution) expand(text string, base int) string {
	if s.depth++; s.depth > maxNesting {
		s.depth--
		s.malformed(text, base)
		return ""
	}
	defer func() { s.depth-- }()
	var out strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			i++
			continue
		}
		next := text[i+1]
		switch {
		case next == '$':
			out.WriteByte('$')
			i += 2
		case isNameStart(next):
			end := nameEnd(text, i+1)
			out.WriteString(s.value(text[i+1:end], base+i))
			i = end
		case next == '{':
			end := closingBrace(text, i+2)
			if end < 0 {
				s.malformed(text[i:], base+i)
				return out.String()
			}
			out.WriteString(s.braced(text[i+2:end], base+i))
			i = end + 1
		default:
			out.WriteByte('$')
			i++
		}
	}
	return out.String()
}

// braced expands what stands between the braces; at is where the dollar sign is.
func (s *substitution) braced(inner string, at int) string {
	end := 0
	if inner != "" && isNameStart(inner[0]) {
		end = nameEnd(inner, 0)
	}
	name, rest := inner[:end], inner[end:]
	if name == "" {
		s.malformed("${"+inner+"}", at)
		return ""
	}
	if rest == "" {
		return s.value(name, at)
	}
	orEmpty := rest[0] == ':'
	operator := strings.TrimPrefix(rest, ":")
	if operator == "" {
		s.malformed("${"+inner+"}", at)
		return ""
	}
	word := operator[1:]
	wordAt := at + len("${") + len(inner) - len(word)
	value, ok := s.lookup(name)
	present := ok && (!orEmpty || value != "")
	switch operator[0] {
	case '-':
		if present {
			return value
		}
		return s.expand(word, wordAt)
	case '+':
		if present {
			return s.expand(word, wordAt)
		}
		return ""
	case '?':
		if present {
			return value
		}
		message := fmt.Sprintf("the variable %s is required and has no value", name)
		if word != "" {
			message += ": " + s.expand(word, wordAt)
		}
		s.faults = append(s.faults, fault{offset: at, name: name, message: message,
			hint: fmt.Sprintf("give it one: maru env set %s=VALUE, in .env, or in the shell", name)})
		return ""
	}
	s.malformed("${"+inner+"}", at)
	return ""
}

func (s *substitution) value(name string, at int) string {
	value, ok := s.lookup(name)
	if !ok {
		s.faults = append(s.faults, fault{offset: at, name: name, unset: true})
	}
	return value
}

func (s *substitution) malformed(text string, at int) {
	s.faults = append(s.faults, fault{offset: at,
		message: fmt.Sprintf("%q is not a variable", text),
		hint:    "write ${NAME}, ${NAME:-default} or ${NAME:?message}; $$ gives a dollar sign"})
}

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func nameEnd(text string, from int) int {
	for from < len(text) && (isNameStart(text[from]) || text[from] >= '0' && text[from] <= '9') {
		from++
	}
	return from
}

// closingBrace finds the brace that closes the one before from, over nested pairs; -1 without one.
func closingBrace(text string, from int) int {
	for depth := 1; from < len(text); from++ {
		switch text[from] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return from
			}
		}
	}
	return -1
}
