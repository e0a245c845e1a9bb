package workflow

import (
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// treatment is what Maru does with a key of the language.
type treatment string

const (
	honored treatment = "done"    // it has the effect that the language says
	warned  treatment = "left"    // it is left out, which a workflow can live with, and said so
	refused treatment = "refused" // the workflow would not do what it says
)

// row is the treatment of one key.
type row struct {
	key       string
	treatment treatment
	means     string
	instead   string // what to write instead
	but       []exception
}

// exception is another treatment of some of a key's values.
type exception struct {
	values    string // in words
	when      func(*yaml.Node) bool
	treatment treatment
	means     string
	instead   string
}

func done(key, means string) row { return row{key: key, treatment: honored, means: means} }

func left(key, means, instead string) row {
	return row{key: key, treatment: warned, means: means, instead: instead}
}

func refuse(key, means, instead string) row {
	return row{key: key, treatment: refused, means: means, instead: instead}
}

func (r row) butRefused(values string, when func(*yaml.Node) bool, means, instead string) row {
	r.but = append(slices.Clip(r.but), exception{values, when, refused, means, instead})
	return r
}

// table gives the rows of all keys, by key. docs/workflows.md is made of it.
var table = sync.OnceValue(func() map[string]row {
	rows := map[string]row{}
	for _, r := range slices.Concat(topRows(), eventRows(), jobRows(), containerRows(), stepRows()) {
		if _, ok := rows[r.key]; ok {
			panic("workflow: two rows for " + r.key)
		}
		rows[r.key] = r
	}
	return rows
})

// treat tells of each key below that is not done.
func (r *reader) treat(n *yaml.Node, key string) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if key == "on" && item.Kind == yaml.ScalarNode {
				r.treatKey(item, nil, "on."+item.Value)
				continue
			}
			r.treat(item, key)
		}
	case yaml.ScalarNode:
		if key == "on" {
			r.treatKey(n, nil, "on."+n.Value)
		}
	case yaml.MappingNode:
		for k, v := range fields(n) {
			r.treatKey(k, v, strings.TrimPrefix(key+"."+k.Value, "."))
		}
	}
}

func (r *reader) treatKey(k, v *yaml.Node, key string) {
	row, ok := table()[key]
	if !ok {
		parent := key[:max(0, strings.LastIndexByte(key, '.'))]
		if row, ok = table()[parent+".*"]; !ok {
			return // the linter tells of keys that are not there
		}
		key = parent + ".*"
	}
	e := exception{treatment: row.treatment, means: row.means, instead: row.instead}
	if v != nil {
		for _, other := range row.but {
			if other.when(v) {
				e = other
				break
			}
		}
	}
	switch e.treatment {
	case refused:
		r.refuse(at(k), key, e.means, e.instead)
		return
	case warned:
		r.warn(at(k), key, e.means, e.instead)
		return
	}
	if v != nil {
		r.treat(v, key)
	}
}
