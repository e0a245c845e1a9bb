package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
)

// maxNodes bounds the YAML values of one load with its anchors expanded. compose-go has the same bound
// for a file.
const maxNodes = 100_000

// parser turns one file's YAML into nodes.
type parser struct {
	l       *load
	file    string // as shown
	lookup  func(string) (string, bool)
	raw     bool // leave variables as they are
	pending map[*yaml.Node]bool
}

// decode gives the documents of the file. Faults are reported.
func (l *load) decode(shown string, data []byte) []*yaml.Node {
	var docs []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			l.fail(syntaxPosition(shown, data, err), "", maru.Invalid, syntaxMessage(err), "")
			return nil
		}
		if len(doc.Content) > 0 {
			docs = append(docs, doc.Content[0])
		}
	}
}

var (
	syntaxMark   = regexp.MustCompile(`<unknown position>|line (\d+)(?:, column (\d+))?`)
	syntaxOffset = regexp.MustCompile(`offset (\d+)`)
	syntaxWhere  = regexp.MustCompile(`^yaml: |^offset \d+: |(?: at)?:? ?(?:<unknown position>|\bline \d+(?:, column \d+)?)`)
)

// syntaxPosition reads the place out of an error of the YAML library, which has it in the text only.
// Its parser counts lines from 0, its scanner from 1, and its composer columns from 2.
func syntaxPosition(shown string, data []byte, err error) position {
	at := position{file: shown, line: 1, column: 1}
	if found := syntaxOffset.FindStringSubmatch(err.Error()); found != nil {
		offset, _ := strconv.Atoi(found[1])
		before := data[:min(offset, len(data))]
		at.line += bytes.Count(before, []byte("\n"))
		at.column += len(before) - 1 - bytes.LastIndexByte(before, '\n')
		return at
	}
	marks := syntaxMark.FindAllStringSubmatch(err.Error(), -1)
	if len(marks) == 0 {
		return at
	}
	mark := marks[len(marks)-1]
	at.line, _ = strconv.Atoi(mark[1])
	at.column, _ = strconv.Atoi(mark[2])
	switch fmt.Sprintf("%T", err) {
	case "libyaml.ParserError":
		at.line++
	case "*libyaml.ParserError":
		at.column--
	}
	at.column = max(at.column, 1)
	return at
}

func syntaxMessage(err error) string {
	message := syntaxWhere.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "")
	return "not valid YAML: " + strings.TrimLeft(strings.ReplaceAll(message, "::", ":"), ": ")
}

func (p *parser) position(y *yaml.Node) position {
	return position{file: p.file, line: y.Line, column: y.Column}
}

// convert makes a node of a YAML node. It gives nil after a fault that it reported.
func (p *parser) convert(y *yaml.Node, path string) *node {
	if p.l.nodes++; p.l.nodes > maxNodes {
		if p.l.nodes == maxNodes+1 {
			p.l.fail(p.position(y), path, maru.Invalid, "the files are too large when their anchors are expanded", "write fewer aliases, or split the app")
		}
		return nil
	}
	if y.Kind == yaml.AliasNode {
		return p.alias(y, path)
	}
	at := p.position(y)
	n := &node{pos: at, key: at, reset: y.Tag == "!reset", override: y.Tag == "!override"}
	switch {
	case n.reset:
		return n
	case y.Kind == yaml.MappingNode:
		return p.mapping(y, n, path)
	case y.Kind == yaml.SequenceNode:
		n.kind = listNode
		for i, item := range y.Content {
			if made := p.convert(item, joinIndex(path, i)); made != nil && !made.reset {
				n.items = append(n.items, made)
			}
		}
		return n
	}
	return p.scalar(y, n, path)
}

// alias expands the anchor it names. The parts keep the anchor's places; the whole is where it is used.
func (p *parser) alias(y *yaml.Node, path string) *node {
	if y.Alias == nil || p.pending[y.Alias] {
		p.l.fail(p.position(y), path, maru.Invalid, "the anchor &"+y.Value+" contains itself", "")
		return nil
	}
	p.pending[y.Alias] = true
	defer delete(p.pending, y.Alias)
	made := p.convert(y.Alias, path)
	if made == nil {
		return nil
	}
	used := *made
	used.key = p.position(y)
	return &used
}

func (p *parser) mapping(y *yaml.Node, n *node, path string) *node {
	n.kind, n.fields = mappingNode, map[string]*node{}
	lines := map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		at := p.position(y.Content[i])
		if key.Kind != yaml.ScalarNode || (key.ShortTag() != "!!str" && key.ShortTag() != "!!merge") {
			p.l.fail(at, path, maru.Invalid, "a key must be a string", "put it in quotes: \""+key.Value+"\"")
			continue
		}
		if line, ok := lines[key.Value]; ok {
			p.l.fail(at, joinKey(path, key.Value), maru.Invalid,
				"the key "+key.Value+" is already there at line "+strconv.Itoa(line), "remove one of the two")
			continue
		}
		lines[key.Value] = key.Line
		if key.ShortTag() == "!!merge" || key.Value == "<<" {
			merges = append(merges, value)
			continue
		}
		if field := p.convert(value, joinKey(path, key.Value)); field != nil {
			placed := *field
			placed.key = at
			n.set(key.Value, &placed)
		}
	}
	for _, m := range merges {
		p.mergeKey(m, n, path)
	}
	return n
}

// mergeKey adds what "<<" brings: only the fields that the mapping does not have.
func (p *parser) mergeKey(y *yaml.Node, n *node, path string) {
	from := p.convert(y, path)
	if from == nil {
		return
	}
	sources := []*node{from}
	if from.kind == listNode {
		sources = from.items
	}
	for _, source := range sources {
		if source.kind != mappingNode {
			p.l.fail(source.key, path, maru.Invalid, "<< needs a mapping, or a list of them", "")
			return
		}
		for _, name := range source.names {
			if _, ok := n.fields[name]; !ok {
				n.set(name, source.fields[name])
			}
		}
	}
}

func (p *parser) scalar(y *yaml.Node, n *node, path string) *node {
	n.kind = scalarNode
	switch y.ShortTag() {
	case "!!null":
		n.kind = nullNode
		return n
	case "!!int", "!!float", "!!bool":
		if err := y.Decode(&n.value); err != nil {
			p.l.fail(n.pos, path, maru.Invalid, syntaxMessage(err), "")
			return nil
		}
		if n.value == nil {
			n.kind = nullNode
		}
		return n
	}
	n.value = y.Value
	if !p.raw {
		n.value = p.substitute(y, n.pos, path)
	}
	return n
}

// substitute gives the scalar with its variables replaced, and reports what is wrong with them.
func (p *parser) substitute(y *yaml.Node, at position, path string) string {
	text, faults := substitute(y.Value, p.lookup)
	for _, f := range faults {
		where := at
		if y.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && !strings.Contains(y.Value, "\n") {
			where.column += f.offset
			if y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
				where.column++
			}
		}
		if f.unset {
			p.l.unset = append(p.l.unset, unsetVariable{where, path, f.name})
			continue
		}
		p.l.fail(where, path, maru.Invalid, f.message, f.hint)
	}
	return text
}
