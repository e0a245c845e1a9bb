package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// position is a place in a file. The zero position is no place.
type position struct {
	file         string
	line, column int
}

type nodeKind int

const (
	nullNode nodeKind = iota
	scalarNode
	listNode
	mappingNode
)

// node is a YAML value as it stands in the files: interpolated, with aliases and merge keys resolved,
// and with the place of each part. Nodes are immutable once made, and shared.
type node struct {
	kind     nodeKind
	value    any // of a scalar: string, int, float64, bool
	pos      position
	key      position // of its key in the mapping, else pos
	names    []string // of a mapping, in the order written
	fields   map[string]*node
	items    []*node
	reset    bool // !reset: takes away what earlier files say
	override bool // !override: replaces what earlier files say
}

// get gives the node at the path of keys and indices, or nil. A list has a name in it as an item, too.
// It may be called on nil.
func (n *node) get(path ...string) *node {
	for _, part := range path {
		if n == nil {
			return nil
		}
		switch n.kind {
		case mappingNode:
			n = n.fields[part]
		case listNode:
			i := n.index(part)
			if i < 0 {
				return nil
			}
			n = n.items[i]
		default:
			return nil
		}
	}
	return n
}

// index gives the place in a list of an index or a name; -1 for none.
func (n *node) index(part string) int {
	if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.items) {
		return i
	}
	return slices.IndexFunc(n.items, func(item *node) bool { return item.kind == scalarNode && item.text() == part })
}

// place gives the position of the deepest part of the path that the files have, the key's where it is
// the value of one.
func (n *node) place(path ...string) position {
	var at position
	for i := range path {
		found := n.get(path[:i+1]...)
		if found == nil {
			break
		}
		at = found.key
	}
	return at
}

// text gives a scalar as a string.
func (n *node) text() string {
	if n == nil || n.kind != scalarNode {
		return ""
	}
	return fmt.Sprint(n.value)
}

// isEmpty tells whether the value says nothing: null, false, "", or without any part.
func (n *node) isEmpty() bool {
	switch {
	case n == nil, n.kind == nullNode:
		return true
	case n.kind == scalarNode:
		return n.value == "" || n.value == false || n.value == "false"
	case n.kind == listNode:
		return len(n.items) == 0
	}
	return len(n.names) == 0
}

// plain gives the value as JSON has it.
func (n *node) plain() any {
	switch n.kind {
	case scalarNode:
		return n.value
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.plain()
		}
		return list
	case mappingNode:
		m := make(map[string]any, len(n.names))
		for name, field := range n.fields {
			m[name] = field.plain()
		}
		return m
	}
	return nil
}

// set adds or replaces a field of a mapping that is being made.
func (n *node) set(name string, field *node) {
	if _, ok := n.fields[name]; !ok {
		n.names = append(n.names, name)
	}
	n.fields[name] = field
}

// without gives a mapping without one of its fields.
func (n *node) without(name string) *node {
	made := newMapping(n)
	for _, other := range n.names {
		if other != name {
			made.set(other, n.fields[other])
		}
	}
	return made
}

func newMapping(at *node) *node {
	return &node{kind: mappingNode, pos: at.pos, key: at.key, fields: map[string]*node{}}
}

// scalars calls f for each scalar below n with its path.
func (n *node) scalars(path string, f func(path string, scalar *node)) {
	switch n.kind {
	case scalarNode:
		f(path, n)
	case listNode:
		for i, item := range n.items {
			item.scalars(joinIndex(path, i), f)
		}
	case mappingNode:
		for _, name := range n.names {
			n.fields[name].scalars(joinKey(path, name), f)
		}
	}
}

func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func joinIndex(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func dotted(path []string) string { return strings.Join(path, ".") }
