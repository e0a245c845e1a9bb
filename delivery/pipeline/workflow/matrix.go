package workflow

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// maxMatrix is how many jobs one matrix makes at most. It is GitHub's limit.
const maxMatrix = 256

// Matrix is a job's strategy.matrix: dimensions, with combinations that come on top or are left out;
// or one expression for all of it.
type Matrix struct {
	whole            *expr.Text
	dimensions       []dataField
	include, exclude Data
	At               Position
}

func (r *reader) matrix(n *yaml.Node) *Matrix {
	const where = "jobs.<job_id>.strategy"
	if n == nil {
		return nil
	}
	m := &Matrix{At: at(n), whole: r.whole(n, where)}
	for k, v := range fields(n) {
		switch k.Value {
		case "include":
			m.include = r.data(v, where)
		case "exclude":
			m.exclude = r.data(v, where)
		default:
			m.dimensions = append(m.dimensions, dataField{k.Value, r.data(v, where)})
		}
	}
	return m
}

// Expand gives the combinations, in GitHub's order: the first dimension changes most slowly, and what
// include adds comes last. A matrix without any combination is an error, as is one of more than 256.
func (m *Matrix) Expand(env *expr.Env) ([]*expr.Object, error) {
	dimensions, include, exclude, err := m.evaluate(env)
	if err != nil {
		return nil, err
	}
	var base []*expr.Object
	if dimensions.Len() > 0 {
		base = []*expr.Object{expr.NewObject()}
	}
	for _, name := range dimensions.Keys() {
		values, ok := dimensions.Get(name).(*expr.Array)
		if !ok {
			return nil, maru.Errorf(maru.Invalid, "the matrix has no list for %s", name)
		}
		var next []*expr.Object
		for _, before := range base {
			for _, v := range values.Items {
				if len(next) > 16*maxMatrix {
					return nil, tooManyJobs(len(next))
				}
				c := before.Clone()
				c.Set(name, v)
				next = append(next, c)
			}
		}
		base = next
	}
	base = slices.DeleteFunc(base, func(c *expr.Object) bool {
		return slices.ContainsFunc(exclude, func(pattern *expr.Object) bool { return matches(c, pattern) })
	})
	all := addIncluded(base, dimensions, include)
	switch {
	case len(all) == 0:
		return nil, maru.Errorf(maru.Invalid, "the matrix has no combination")
	case len(all) > maxMatrix:
		return nil, tooManyJobs(len(all))
	}
	return all, nil
}

func tooManyJobs(n int) error {
	return maru.Errorf(maru.Invalid, "the matrix makes %d jobs or more; %d is the most", n, maxMatrix)
}

// addIncluded extends each combination by what of include goes with it, and appends the rest as
// combinations of their own.
func addIncluded(base []*expr.Object, dimensions *expr.Object, include []*expr.Object) []*expr.Object {
	var extended []*expr.Object
	for _, c := range base {
		extended = append(extended, c.Clone())
	}
	var added []*expr.Object
	for _, entry := range include {
		fits := false
		for i, c := range base {
			if !extends(c, dimensions, entry) {
				continue
			}
			fits = true
			for _, key := range entry.Keys() {
				if !dimensions.Has(key) {
					extended[i].Set(key, entry.Get(key))
				}
			}
		}
		if !fits {
			added = append(added, entry.Clone())
		}
	}
	return append(extended, added...)
}

// extends tells whether the entry changes no value of the combination's dimensions.
func extends(c, dimensions, entry *expr.Object) bool {
	for _, key := range entry.Keys() {
		if dimensions.Has(key) && !same(c.Get(key), entry.Get(key)) {
			return false
		}
	}
	return true
}

// matches tells whether the combination has all values of the pattern. Objects may have more.
func matches(v, pattern any) bool {
	p, ok := pattern.(*expr.Object)
	if !ok {
		return same(v, pattern)
	}
	o, ok := v.(*expr.Object)
	if !ok {
		return false
	}
	for _, key := range p.Keys() {
		if !o.Has(key) || !matches(o.Get(key), p.Get(key)) {
			return false
		}
	}
	return true
}

// same compares values deeply.
func same(a, b any) bool {
	x, err := expr.ToJSON(a)
	y, err2 := expr.ToJSON(b)
	return err == nil && err2 == nil && x == y
}

func (m *Matrix) evaluate(env *expr.Env) (dimensions *expr.Object, include, exclude []*expr.Object, err error) {
	dimensions = expr.NewObject()
	var in, out any
	if m.whole != nil {
		v, err := m.whole.Value(env)
		if err != nil {
			return nil, nil, nil, err
		}
		o, ok := v.(*expr.Object)
		if !ok {
			return nil, nil, nil, maru.Errorf(maru.Invalid, "the matrix %s is no object", m.whole.Source())
		}
		for _, key := range o.Keys() {
			switch {
			case sameName(key, "include"):
				in = o.Get(key)
			case sameName(key, "exclude"):
				out = o.Get(key)
			default:
				dimensions.Set(key, o.Get(key))
			}
		}
	} else {
		for _, d := range m.dimensions {
			v, err := d.value.Eval(env)
			if err != nil {
				return nil, nil, nil, err
			}
			dimensions.Set(d.key, v)
		}
		if in, err = m.include.Eval(env); err != nil {
			return nil, nil, nil, err
		}
		if out, err = m.exclude.Eval(env); err != nil {
			return nil, nil, nil, err
		}
	}
	if include, err = combinations("include", in); err != nil {
		return nil, nil, nil, err
	}
	exclude, err = combinations("exclude", out)
	return dimensions, include, exclude, err
}

func combinations(name string, v any) ([]*expr.Object, error) {
	if v == nil || v == "" {
		return nil, nil
	}
	list, ok := v.(*expr.Array)
	if !ok {
		return nil, maru.Errorf(maru.Invalid, "%s of the matrix is no list", name)
	}
	var all []*expr.Object
	for i, item := range list.Items {
		o, ok := item.(*expr.Object)
		if !ok {
			return nil, maru.Errorf(maru.Invalid, "%s", fmt.Sprintf("item %d of the matrix's %s is no object", i+1, name))
		}
		all = append(all, o)
	}
	return all, nil
}
