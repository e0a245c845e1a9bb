package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/marucloud/maru"
)

var compiled = sync.OnceValue(func() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Schema))
	if err != nil {
		panic("compose: the specification's schema: " + err.Error())
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("compose-spec.json", document); err != nil {
		panic("compose: the specification's schema: " + err.Error())
	}
	s, err := c.Compile("compose-spec.json")
	if err != nil {
		panic("compose: the specification's schema: " + err.Error())
	}
	return s
})

// validate holds the merged files against the specification's schema and the table of treatments.
func (l *load) validate(context.Context) {
	l.checkKeys(l.src, specification(), "", "")
	l.checkSchema()
	l.checkForms(l.src, specification(), "", "")
	l.checkSources()
	l.decodeKeys()
	l.treatAll()
	l.warnUnset()
}

// checkKeys reports the keys that the specification does not know.
func (l *load) checkKeys(n *node, k *keyNode, path, key string) {
	if k == nil || k.open {
		return
	}
	switch n.kind {
	case listNode:
		for i, item := range n.items {
			l.checkKeys(item, k, joinIndex(path, i), key)
		}
	case mappingNode:
		for _, name := range n.names {
			l.checkKey(n.fields[name], k, path, key, name)
		}
	}
}

func (l *load) checkKey(n *node, k *keyNode, path, key, name string) {
	child, called := k.child(name)
	at := joinKey(path, name)
	switch {
	case called == name:
		l.checkKeys(n, child, at, joinKey(key, name))
	case strings.HasPrefix(name, "x-"):
		l.checkExtension(n, at, key, name)
	case child != nil:
		l.checkKeys(n, child, at, joinKey(key, called))
	case len(k.children) > 0:
		l.fail(n.key, at, maru.Invalid, fmt.Sprintf("there is no key %s %s", name, inside(path)),
			didYouMean(name, sortedKeys(k.children)))
	}
}

func inside(path string) string {
	if path == "" {
		return "at the top of a compose file"
	}
	return "in " + path
}

// checkExtension reports an x-maru where it means nothing, and keys that look like it.
func (l *load) checkExtension(n *node, path, key, name string) {
	known := key == "" || key == "services.*"
	switch {
	case name == extensionKey && !known:
		l.fail(n.key, path, maru.Invalid, "x-maru means nothing here", "write it at the top of the file or in a service")
	case name != extensionKey && known && distance(name, extensionKey) <= 2:
		l.warn(n.key, path, "means nothing to Maru", "did you mean x-maru?")
	}
}

// checkSchema reports values of a wrong type or form.
func (l *load) checkSchema() {
	known := len(l.errors)
	l.src.scalars("", func(path string, n *node) {
		if f, ok := n.value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			l.fail(n.pos, path, maru.Invalid, "is not a number", "")
		}
	})
	if len(l.errors) > known {
		return
	}
	data, err := json.Marshal(l.src.plain())
	if err != nil {
		l.fail(l.place(), "", maru.Invalid, err.Error(), "")
		return
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		l.fail(l.place(), "", maru.Invalid, err.Error(), "")
		return
	}
	var invalid *jsonschema.ValidationError
	if errors.As(compiled().Validate(document), &invalid) {
		for _, e := range leaves(invalid) {
			l.schemaIssue(e)
		}
	}
}

// leaves gives the errors that say something. Of alternatives it takes the one that came furthest: a
// mapping that has a fault in it was not meant as a string.
func leaves(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	if one, ok := e.ErrorKind.(*kind.OneOf); ok && len(one.Subschemas) > 0 {
		return []*jsonschema.ValidationError{e}
	}
	choice := false
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		choice = true
	}
	var all []*jsonschema.ValidationError
	furthest := -1
	for _, cause := range e.Causes {
		found := leaves(cause)
		depth := 0
		for _, f := range found {
			depth = max(depth, len(f.InstanceLocation))
		}
		switch {
		case !choice || depth == furthest:
			all = append(all, found...)
		case depth > furthest:
			all = found
		}
		furthest = max(furthest, depth)
	}
	if choice && furthest == len(e.InstanceLocation) {
		return []*jsonschema.ValidationError{merged(e, all)}
	}
	return all
}

// merged makes one error of alternatives that all fail at the value itself: that it has the wrong type,
// unless it has a right one and something else is wrong with it.
func merged(e *jsonschema.ValidationError, all []*jsonschema.ValidationError) *jsonschema.ValidationError {
	types := &kind.Type{}
	for _, a := range all {
		t, ok := a.ErrorKind.(*kind.Type)
		if !ok {
			return a
		}
		types.Got = t.Got
		types.Want = append(types.Want, t.Want...)
	}
	return &jsonschema.ValidationError{InstanceLocation: e.InstanceLocation, ErrorKind: types}
}

func (l *load) schemaIssue(e *jsonschema.ValidationError) {
	path := l.pathOf(e.InstanceLocation)
	var text string
	hint := forms[keyOfIssue(path)].hint
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties, *kind.FalseSchema:
		l.schemaName(e)
		return
	case *kind.Type:
		want := slices.Compact(slices.Sorted(slices.Values(k.Want)))
		for i, w := range want {
			want[i] = typeName(w)
		}
		text = fmt.Sprintf("is %s; it must be %s", typeName(k.Got), oneOf(want))
	case *kind.Required:
		text = "lacks " + strings.Join(k.Missing, ", ")
	case *kind.Enum:
		var want []string
		for _, w := range k.Want {
			want = append(want, fmt.Sprint(w))
		}
		text = fmt.Sprintf("is %q; it must be %s", k.Got, oneOf(want))
		if best := nearest(fmt.Sprint(k.Got), want); best != "" {
			hint = fmt.Sprintf("did you mean %q?", best)
		}
	case *kind.UniqueItems:
		text, hint = "has the same entry twice", "leave one of the two out"
	case *kind.Pattern:
		text, hint = fmt.Sprintf("%q is not of the form %s", k.Got, k.Want), patternHints[keyOfIssue(path)]
	case *kind.Maximum:
		text = fmt.Sprintf("is %s; the most is %s", number(k.Got), number(k.Want))
	case *kind.Minimum:
		text = fmt.Sprintf("is %s; the least is %s", number(k.Got), number(k.Want))
	default:
		text = e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	}
	l.fail(l.place(e.InstanceLocation...), path, maru.Invalid, text, hint)
}

// patternHints say in words what a pattern of the schema wants.
var patternHints = map[string]string{
	"services.*.pull_policy":    "it can be always, missing, never or build",
	"services.*.container_name": "use letters, digits, '-', '_' and '.'",
}

func number(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	return r.FloatString(3)
}

// schemaName reports a name that the schema's pattern does not allow. Unknown keys are told elsewhere.
func (l *load) schemaName(e *jsonschema.ValidationError) {
	k, ok := e.ErrorKind.(*kind.AdditionalProperties)
	if !ok || len(e.InstanceLocation) != 1 {
		return
	}
	for _, name := range k.Properties {
		path := append(slices.Clip(e.InstanceLocation), name)
		l.fail(l.place(path...), "", maru.Invalid, fmt.Sprintf("%q can't be a name in %s", name, e.InstanceLocation[0]),
			"use letters, digits, '-', '_' and '.'")
	}
}

// pathOf writes a path with its list indices in brackets.
func (l *load) pathOf(path []string) string {
	text, n := "", l.src
	for _, part := range path {
		if n != nil && n.kind == listNode {
			text = joinIndex(text, n.index(part))
		} else {
			text = joinKey(text, part)
		}
		n = n.get(part)
	}
	return text
}

func typeName(t string) string {
	switch t {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "null":
		return "null"
	case "integer":
		return "an integer"
	}
	return "a " + t
}
