package workflow

import (
	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// Data is a value of the file with expressions in it, such as those of a matrix. The zero value is
// null.
type Data struct {
	scalar any       // of a scalar without expressions
	text   expr.Text // of one with some
	list   []Data
	object []dataField
	kind   dataKind
}

type dataKind int

const (
	scalarData dataKind = iota
	textData
	listData
	objectData
)

type dataField struct {
	key   string
	value Data
}

// IsZero tells whether there is nothing.
func (d Data) IsZero() bool { return d.kind == scalarData && d.scalar == nil }

// Eval gives the value.
func (d Data) Eval(env *expr.Env) (any, error) {
	switch d.kind {
	case textData:
		return d.text.Value(env)
	case listData:
		a := &expr.Array{}
		for _, item := range d.list {
			v, err := item.Eval(env)
			if err != nil {
				return nil, err
			}
			a.Items = append(a.Items, v)
		}
		return a, nil
	case objectData:
		o := expr.NewObject()
		for _, f := range d.object {
			v, err := f.value.Eval(env)
			if err != nil {
				return nil, err
			}
			o.Set(f.key, v)
		}
		return o, nil
	}
	return d.scalar, nil
}

// data reads any value.
func (r *reader) data(n *yaml.Node, where string) Data {
	switch {
	case n == nil:
		return Data{}
	case n.Kind == yaml.SequenceNode:
		d := Data{kind: listData}
		for _, item := range n.Content {
			d.list = append(d.list, r.data(item, where))
		}
		return d
	case n.Kind == yaml.MappingNode:
		d := Data{kind: objectData}
		for k, v := range fields(n) {
			d.object = append(d.object, dataField{k.Value, r.data(v, where)})
		}
		return d
	}
	if t := r.text(n, where); !t.IsLiteral() {
		return Data{kind: textData, text: t}
	}
	return Data{scalar: scalar(n)}
}
