package expr

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/rhysd/actionlint"
)

// maxSize bounds the texts that evaluating one expression makes, in bytes.
const maxSize = 10 << 20

var errTooLarge = errors.New("the expression makes a text of more than 10 MiB")

// Env is what expressions are evaluated with.
type Env struct {
	Contexts  *Object // by name: github, env, vars, …
	Status    Status
	HashFiles func(patterns []string) (string, error) // nil where the function is not available
}

// Status is what the status functions answer. always() is true.
type Status struct {
	Success   bool
	Failure   bool
	Cancelled bool
}

// evaluation is one evaluation with its budget.
type evaluation struct {
	env  *Env
	left int // bytes
}

// Eval gives the value of the expression. An error says which part can't be evaluated.
func (e *Expr) Eval(env *Env) (any, error) {
	v, err := (&evaluation{env, maxSize}).eval(e.root)
	if err != nil {
		return nil, fmt.Errorf("${{ %s }}: %w", e.source, err)
	}
	if a, ok := v.(*Array); ok && a.filtered {
		return &Array{Items: a.Items}, nil
	}
	return v, nil
}

func (e *evaluation) eval(n actionlint.ExprNode) (any, error) {
	switch n := n.(type) {
	case *actionlint.NullNode:
		return nil, nil
	case *actionlint.BoolNode:
		return n.Value, nil
	case *actionlint.IntNode:
		return float64(n.Value), nil
	case *actionlint.FloatNode:
		return n.Value, nil
	case *actionlint.StringNode:
		return n.Value, nil
	case *actionlint.VariableNode:
		if !e.env.Contexts.Has(n.Name) {
			return nil, fmt.Errorf("the context %s is not available here", n.Name)
		}
		return e.env.Contexts.Get(n.Name), nil
	case *actionlint.ObjectDerefNode:
		receiver, err := e.eval(n.Receiver)
		if err != nil {
			return nil, err
		}
		return index(receiver, n.Property), nil
	case *actionlint.ArrayDerefNode:
		receiver, err := e.eval(n.Receiver)
		if err != nil {
			return nil, err
		}
		return e.spread(receiver)
	case *actionlint.IndexAccessNode:
		return e.evalIndex(n)
	case *actionlint.NotOpNode:
		v, err := e.eval(n.Operand)
		return !Truthy(v), err
	case *actionlint.CompareOpNode:
		return e.compare(n)
	case *actionlint.LogicalOpNode:
		left, err := e.eval(n.Left)
		if err != nil || Truthy(left) == (n.Kind == actionlint.LogicalOpNodeKindOr) {
			return left, err
		}
		return e.eval(n.Right)
	case *actionlint.FuncCallNode:
		return e.call(n)
	}
	return nil, fmt.Errorf("an expression of the kind %T is not known", n)
}

func (e *evaluation) evalIndex(n *actionlint.IndexAccessNode) (any, error) {
	operand, err := e.eval(n.Operand)
	if err != nil {
		return nil, err
	}
	key, err := e.eval(n.Index)
	if err != nil {
		return nil, err
	}
	return index(operand, key), nil
}

// index gives a property of an object, or an item of an array; null where there is none.
func index(v, key any) any {
	switch v := v.(type) {
	case *Object:
		if !isPrimitive(key) {
			return nil
		}
		return v.Get(String(key))
	case *Array:
		if v.filtered {
			all := &Array{filtered: true}
			for _, item := range v.Items {
				if has(item, key) {
					all.Items = append(all.Items, index(item, key))
				}
			}
			return all
		}
		if i := position(key); has(v, key) {
			return v.Items[i]
		}
	}
	return nil
}

func position(key any) int {
	f := math.Floor(Number(key))
	if math.IsNaN(f) || f < 0 || f > math.MaxInt32 {
		return -1
	}
	return int(f)
}

func has(v, key any) bool {
	switch v := v.(type) {
	case *Object:
		return isPrimitive(key) && v.Has(String(key))
	case *Array:
		i := position(key)
		return isPrimitive(key) && i >= 0 && i < len(v.Items)
	}
	return false
}

// spread gives all items of an array or values of an object: ".*". Of a filtered array it gives
// those of each item.
func (e *evaluation) spread(v any) (any, error) {
	all := &Array{filtered: true}
	add := func(v any) {
		switch v := v.(type) {
		case *Array:
			all.Items = append(all.Items, v.Items...)
		case *Object:
			for _, key := range v.Keys() {
				all.Items = append(all.Items, v.Get(key))
			}
		}
	}
	if a, ok := v.(*Array); ok && a.filtered {
		for _, item := range a.Items {
			add(item)
		}
	} else {
		add(v)
	}
	return all, e.spend(16 * len(all.Items))
}

// spend takes from the budget what is made.
func (e *evaluation) spend(bytes int) error {
	if e.left -= bytes; e.left < 0 {
		return errTooLarge
	}
	return nil
}

func (e *evaluation) compare(n *actionlint.CompareOpNode) (any, error) {
	a, err := e.eval(n.Left)
	if err != nil {
		return nil, err
	}
	b, err := e.eval(n.Right)
	if err != nil {
		return nil, err
	}
	switch n.Kind {
	case actionlint.CompareOpNodeKindEq:
		return equal(a, b), nil
	case actionlint.CompareOpNodeKindNotEq:
		return !equal(a, b), nil
	case actionlint.CompareOpNodeKindLess:
		return less(a, b), nil
	case actionlint.CompareOpNodeKindLessEq:
		return less(a, b) || equal(a, b), nil
	case actionlint.CompareOpNodeKindGreater:
		return less(b, a), nil
	case actionlint.CompareOpNodeKindGreaterEq:
		return less(b, a) || equal(a, b), nil
	}
	return nil, fmt.Errorf("the operator %s is not known", n.Kind)
}

// call evaluates a function. case evaluates only what it needs.
func (e *evaluation) call(n *actionlint.FuncCallNode) (any, error) {
	name := strings.ToLower(n.Callee)
	if wrong := CheckCall(Name{Name: name, Args: len(n.Args)}); wrong != "" {
		return nil, errors.New(wrong)
	}
	if name == "case" {
		return e.choose(n.Args)
	}
	args := make([]any, len(n.Args))
	for i, a := range n.Args {
		v, err := e.eval(a)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	v, err := e.function(name, args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Callee, err)
	}
	if s, ok := v.(string); ok {
		err = e.spend(len(s))
	}
	return v, err
}

func (e *evaluation) choose(args []actionlint.ExprNode) (any, error) {
	for len(args) > 1 {
		condition, err := e.eval(args[0])
		if err != nil {
			return nil, err
		}
		if Truthy(condition) {
			return e.eval(args[1])
		}
		args = args[2:]
	}
	return e.eval(args[0])
}
