package expr

import (
	"errors"
	"strings"
)

// Text is a string with expressions in it. The zero value is the empty string.
type Text struct {
	source string
	parts  []part
}

// part is a piece of a text: an expression, or what stands between them.
type part struct {
	literal      string
	expr         *Expr
	line, column int // of the expression in the text, from 1
}

// ParseText reads a string in which ${{ and }} enclose expressions. The error is a *SyntaxError.
func ParseText(source string) (Text, error) {
	t := Text{source: source}
	at := 0
	for {
		begin := strings.Index(source[at:], "${{")
		if begin < 0 {
			break
		}
		if begin > 0 {
			t.parts = append(t.parts, part{literal: source[at : at+begin]})
		}
		at += begin + len("${{")
		line, column := place(source, at)
		e, end, err := parsePrefix(source[at:])
		if err != nil {
			if e, ok := errors.AsType[*SyntaxError](err); ok {
				err = shift(e, line, column)
			}
			return Text{}, err
		}
		t.parts = append(t.parts, part{expr: e, line: line, column: column})
		at += end
	}
	if at < len(source) {
		t.parts = append(t.parts, part{literal: source[at:]})
	}
	return t, nil
}

// Literal makes a text without expressions.
func Literal(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{source: s, parts: []part{{literal: s}}}
}

func place(s string, offset int) (line, column int) {
	before := s[:offset]
	return 1 + strings.Count(before, "\n"), offset - strings.LastIndexByte(before, '\n')
}

func shift(e *SyntaxError, line, column int) *SyntaxError {
	if e.Line == 1 {
		e.Column += column - 1
	}
	e.Line += line - 1
	return e
}

// Source is the text as it was written.
func (t Text) Source() string { return t.source }

// IsZero tells whether the text is empty.
func (t Text) IsZero() bool { return t.source == "" }

// IsLiteral tells whether there is no expression in the text.
func (t Text) IsLiteral() bool {
	for _, p := range t.parts {
		if p.expr != nil {
			return false
		}
	}
	return true
}

// Whole gives the expression that is all of the text, nil when there is more or none.
func (t Text) Whole() *Expr {
	var whole *Expr
	for _, p := range t.parts {
		switch {
		case p.expr == nil && strings.TrimSpace(p.literal) == "":
		case p.expr == nil || whole != nil:
			return nil
		default:
			whole = p.expr
		}
	}
	return whole
}

// Exprs are the expressions of the text, each with its place in it.
func (t Text) Exprs() []Placed {
	var all []Placed
	for _, p := range t.parts {
		if p.expr != nil {
			all = append(all, Placed{p.expr, p.line, p.column})
		}
	}
	return all
}

// Placed is an expression with the place in its text where it begins, from 1.
type Placed struct {
	Expr         *Expr
	Line, Column int
}

// Eval gives the text with the values of its expressions.
func (t Text) Eval(env *Env) (string, error) {
	var out strings.Builder
	for _, p := range t.parts {
		if p.expr == nil {
			out.WriteString(p.literal)
			continue
		}
		v, err := p.expr.Eval(env)
		if err != nil {
			return "", err
		}
		out.WriteString(String(v))
		if out.Len() > maxSize {
			return "", errTooLarge
		}
	}
	return out.String(), nil
}

// Value gives the value of the expression that is all of the text, else the text as a string.
func (t Text) Value(env *Env) (any, error) {
	if whole := t.Whole(); whole != nil {
		return whole.Eval(env)
	}
	return t.Eval(env)
}

// Condition is what an `if` says. The zero value is success().
type Condition struct {
	source string
	text   Text  // when there are ${{ and }} in it
	expr   *Expr // else
}

// ParseCondition reads an `if`, in which ${{ and }} may be left out. The error is a *SyntaxError.
func ParseCondition(source string) (Condition, error) {
	c := Condition{source: source}
	if !strings.Contains(source, "${{") {
		if strings.TrimSpace(source) == "" {
			return c, nil
		}
		e, err := Parse(source)
		if err != nil {
			return Condition{}, err
		}
		c.expr = e
		return c, nil
	}
	t, err := ParseText(source)
	if err != nil {
		return Condition{}, err
	}
	c.text, c.expr = t, t.Whole()
	return c, nil
}

// Source is the condition as it was written.
func (c Condition) Source() string { return c.source }

// Mixed tells whether the condition is text and expressions together, which is always true.
func (c Condition) Mixed() bool { return c.expr == nil && !c.text.IsZero() }

// Exprs are the expressions of the condition.
func (c Condition) Exprs() []Placed {
	if !c.text.IsZero() {
		return c.text.Exprs()
	}
	if c.expr != nil {
		return []Placed{{c.expr, 1, 1}}
	}
	return nil
}

// Holds evaluates the condition. One that calls no status function also wants success().
func (c Condition) Holds(env *Env) (bool, error) {
	asks := false
	for _, p := range c.Exprs() {
		asks = asks || p.Expr.asksStatus()
	}
	if !asks && !env.Status.Success {
		return false, nil
	}
	var v any
	var err error
	switch {
	case c.expr != nil:
		v, err = c.expr.Eval(env)
	case !c.text.IsZero():
		v, err = c.text.Eval(env)
	default:
		return env.Status.Success, nil
	}
	return Truthy(v), err
}
