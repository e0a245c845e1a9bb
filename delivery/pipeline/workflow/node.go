package workflow

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru/delivery/pipeline/expr"
)

// Bounds of a file.
const (
	maxFile  = 1 << 20 // bytes
	maxNodes = 100_000 // with aliases written out
)

// parseYAML reads one document. Aliases stay; what they stand for is bounded. It tells whether there
// are any.
func parseYAML(data []byte) (root *yaml.Node, aliases bool, err error) {
	if len(data) > maxFile {
		return nil, false, fmt.Errorf("the file has more than %d bytes", maxFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, false, err
	}
	if len(doc.Content) == 0 {
		return nil, false, errors.New("the file is empty")
	}
	sizes := map[*yaml.Node]int{}
	var size func(n *yaml.Node) (int, error)
	size = func(n *yaml.Node) (int, error) {
		if s, ok := sizes[n]; ok {
			if s < 0 {
				return 0, errors.New("an anchor contains itself")
			}
			return s, nil
		}
		sizes[n] = -1
		total, below := 1, n.Content
		if n.Kind == yaml.AliasNode {
			aliases, below = true, []*yaml.Node{n.Alias}
		}
		for _, c := range below {
			s, err := size(c)
			if err != nil {
				return 0, err
			}
			if total += s; total > maxNodes {
				return 0, fmt.Errorf("the file has more than %d values with its aliases written out", maxNodes)
			}
		}
		sizes[n] = total
		return total, nil
	}
	if _, err := size(doc.Content[0]); err != nil {
		return nil, false, err
	}
	return doc.Content[0], aliases, nil
}

// written gives the node with its aliases written out.
func written(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	c := *n
	c.Anchor = ""
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, below := range n.Content {
		c.Content[i] = written(below)
	}
	return &c
}

func at(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// fields gives the keys and values of a mapping, none for anything else.
func fields(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		if n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// field gives the value of a key, nil without one.
func field(n *yaml.Node, key string) *yaml.Node {
	for k, v := range fields(n) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// items gives the items of a list; a single value is a list of one, null is none.
func items(n *yaml.Node) []*yaml.Node {
	switch {
	case n == nil || isNull(n):
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	}
	return []*yaml.Node{n}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func plain(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

var (
	decimal = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	based   = regexp.MustCompile(`^0(x[0-9a-fA-F]+|o[0-7]+)$`)
)

// scalar gives a scalar's value as YAML 1.2's core schema has it: null, a bool, a float64 or a string.
func scalar(n *yaml.Node) any {
	if !plain(n) {
		return n.Value
	}
	switch n.Value {
	case "", "null", "Null", "NULL", "~":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	}
	if decimal.MatchString(n.Value) {
		if f, err := strconv.ParseFloat(strings.TrimPrefix(n.Value, "+"), 64); err == nil && !math.IsInf(f, 0) {
			return f
		}
	}
	if based.MatchString(n.Value) {
		if f := expr.Number(n.Value); !math.IsNaN(f) {
			return f
		}
	}
	return n.Value
}

// words is a scalar where text is expected: as GitHub does, 1.10 becomes 1.1.
func words(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return expr.String(scalar(n))
}

func allWords(n *yaml.Node) []string {
	var all []string
	for _, item := range items(n) {
		all = append(all, words(item))
	}
	return all
}
