package expr

import (
	"fmt"
	"strings"

	"github.com/rhysd/actionlint"
)

// maxLength is how long an expression may be, in bytes. It is GitHub's limit.
const maxLength = 21000

// SyntaxError says what is wrong with an expression. Line and Column count from 1, in the text that
// was parsed.
type SyntaxError struct {
	Message      string
	Line, Column int
}

// Error gives the message alone: whoever knows the file says where.
func (e *SyntaxError) Error() string { return e.Message }

// Expr is a parsed expression. It is immutable.
type Expr struct {
	source string
	root   actionlint.ExprNode
}

// Parse reads an expression, without the ${{ and }} around it. The error is a *SyntaxError.
func Parse(source string) (*Expr, error) {
	e, rest, err := parsePrefix(source + "}}")
	if err != nil {
		return nil, err
	}
	if rest != len(source)+2 {
		return nil, &SyntaxError{Message: `"}}" ends the expression before its end`, Line: 1, Column: rest}
	}
	return e, nil
}

// parsePrefix reads an expression up to and with its }}, and tells where the text goes on.
func parsePrefix(source string) (*Expr, int, error) {
	lexer := actionlint.NewExprLexer(source)
	root, problem := actionlint.NewExprParser().Parse(lexer)
	if problem != nil {
		return nil, 0, &SyntaxError{Message: problem.Message, Line: problem.Line, Column: problem.Column}
	}
	end := lexer.Offset()
	if end > maxLength {
		return nil, 0, &SyntaxError{Message: fmt.Sprintf("an expression has at most %d characters", maxLength), Line: 1, Column: 1}
	}
	return &Expr{source: strings.TrimSpace(strings.TrimSuffix(source[:end], "}}")), root: root}, end, nil
}

// Source is the expression as it was written.
func (e *Expr) Source() string { return e.source }

// Names are the contexts that the expression reads and the functions that it calls, in lower case,
// with repetitions, in the order of their places.
func (e *Expr) Names() (contexts, functions []Name) {
	actionlint.VisitExprNode(e.root, func(n, _ actionlint.ExprNode, entering bool) {
		if !entering {
			return
		}
		switch n := n.(type) {
		case *actionlint.VariableNode:
			contexts = append(contexts, Name{n.Name, 0, n.Token().Line, n.Token().Column})
		case *actionlint.FuncCallNode:
			functions = append(functions, Name{strings.ToLower(n.Callee), len(n.Args), n.Token().Line, n.Token().Column})
		}
	})
	return contexts, functions
}

// Properties are the names that the expression reads directly in a context, such as "token" of
// secrets.token and secrets['token'], in lower case.
func (e *Expr) Properties(context string) []string {
	var names []string
	actionlint.VisitExprNode(e.root, func(n, _ actionlint.ExprNode, entering bool) {
		if !entering {
			return
		}
		switch n := n.(type) {
		case *actionlint.ObjectDerefNode:
			if v, ok := n.Receiver.(*actionlint.VariableNode); ok && v.Name == context {
				names = append(names, n.Property)
			}
		case *actionlint.IndexAccessNode:
			v, ok := n.Operand.(*actionlint.VariableNode)
			key, literal := n.Index.(*actionlint.StringNode)
			if ok && literal && v.Name == context {
				names = append(names, strings.ToLower(key.Value))
			}
		}
	})
	return names
}

// Name is a context or a function in an expression. Args is the number of a function's arguments.
type Name struct {
	Name         string
	Args         int
	Line, Column int
}

// arity gives the fewest and the most arguments of each function. -1 is any number.
var arity = map[string][2]int{
	"contains": {2, 2}, "startswith": {2, 2}, "endswith": {2, 2}, "format": {1, -1}, "join": {1, 2},
	"tojson": {1, 1}, "fromjson": {1, 1}, "hashfiles": {1, -1}, "case": {3, -1},
	"success": {0, 0}, "always": {0, 0}, "cancelled": {0, 0}, "failure": {0, 0},
}

// Functions are the names of all functions, in lower case.
func Functions() []string {
	var names []string
	for name := range arity {
		names = append(names, name)
	}
	return names
}

// CheckCall tells what is wrong with a call of a function, "" if nothing.
func CheckCall(f Name) string {
	n, ok := arity[f.Name]
	switch {
	case !ok:
		return fmt.Sprintf("there is no function %s", f.Name)
	case f.Args < n[0]:
		return fmt.Sprintf("the function %s has %d arguments at least, not %d", f.Name, n[0], f.Args)
	case n[1] >= 0 && f.Args > n[1]:
		return fmt.Sprintf("the function %s has %d arguments at most, not %d", f.Name, n[1], f.Args)
	case f.Name == "case" && f.Args%2 == 0:
		return "the function case has pairs of a condition and a value, and then one value for otherwise"
	}
	return ""
}

// statusFunctions are those that make a condition say itself when it holds.
var statusFunctions = map[string]bool{"success": true, "always": true, "cancelled": true, "failure": true}

func (e *Expr) asksStatus() bool {
	_, functions := e.Names()
	for _, f := range functions {
		if statusFunctions[f.Name] {
			return true
		}
	}
	return false
}
