package compose

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/schema"
)

// keyNode is what the specification's JSON schema says may stand at a place: the keys there, and
// whether others may. Lists have no level of their own.
type keyNode struct {
	children    map[string]*keyNode
	wild        *keyNode // of names that the user chooses
	open        bool     // any key
	description string
}

// specification gives the keys of the Compose Specification, from the schema that compose-go embeds.
var specification = sync.OnceValue(func() *keyNode {
	var root map[string]any
	if err := json.Unmarshal([]byte(schema.Schema), &root); err != nil {
		panic("compose: the specification's schema: " + err.Error())
	}
	defs, _ := root["$defs"].(map[string]any)
	w := schemaWalk{defs: defs, active: map[string]bool{}}
	tree := &keyNode{}
	w.add(tree, root)
	return tree
})

type schemaWalk struct {
	defs   map[string]any
	active map[string]bool // references on the way here
}

func (w schemaWalk) add(to *keyNode, from map[string]any) {
	if ref, ok := from["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		if def, ok := w.defs[name].(map[string]any); ok && !w.active[name] {
			w.active[name] = true
			w.add(to, def)
			delete(w.active, name)
		}
	}
	if text, ok := from["description"].(string); ok && to.description == "" {
		to.description = text
	}
	for _, combinator := range []string{"oneOf", "anyOf", "allOf"} {
		alternatives, _ := from[combinator].([]any)
		for _, alternative := range alternatives {
			if sub, ok := alternative.(map[string]any); ok {
				w.add(to, sub)
			}
		}
	}
	if items, ok := from["items"].(map[string]any); ok {
		w.add(to, items)
	}
	w.addProperties(to, from)
}

func (w schemaWalk) addProperties(to *keyNode, from map[string]any) {
	properties, _ := from["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if to.children == nil {
			to.children = map[string]*keyNode{}
		}
		child := to.children[name]
		if child == nil {
			child = &keyNode{}
			to.children[name] = child
		}
		if sub, ok := properties[name].(map[string]any); ok {
			w.add(child, sub)
		}
	}
	patterns, _ := from["patternProperties"].(map[string]any)
	if additional, ok := from["additionalProperties"].(map[string]any); ok {
		patterns = maps.Clone(patterns)
		if patterns == nil {
			patterns = map[string]any{}
		}
		patterns[""] = additional
	}
	for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
		if pattern == "^x-" {
			continue
		}
		if to.wild == nil {
			to.wild = &keyNode{}
		}
		if sub, ok := patterns[pattern].(map[string]any); ok {
			w.add(to.wild, sub)
		}
	}
	if from["type"] == "object" && properties == nil && to.wild == nil {
		to.open = true
	}
}

// child gives what stands under the key, and the name by which the specification has it.
func (k *keyNode) child(name string) (*keyNode, string) {
	if k == nil {
		return nil, ""
	}
	if c := k.children[name]; c != nil {
		return c, name
	}
	if k.wild != nil {
		return k.wild, "*"
	}
	return nil, ""
}

// walk calls f for each key with its path, in order.
func (k *keyNode) walk(path string, f func(path string, k *keyNode)) {
	for _, name := range slices.Sorted(maps.Keys(k.children)) {
		key := joinKey(path, name)
		f(key, k.children[name])
		k.children[name].walk(key, f)
	}
	if k.wild != nil {
		k.wild.walk(joinKey(path, "*"), f)
	}
}

// keyOfIssue gives the specification's key for a path as people see it, such as services.*.ports.mode
// for services.web.ports[0].mode. It is "" for a path that the specification does not know.
func keyOfIssue(path string) string {
	if path == "" {
		return ""
	}
	key, at := "", specification()
	for part := range strings.SplitSeq(path, ".") {
		part, _, _ = strings.Cut(part, "[")
		if strings.HasPrefix(part, "x-") {
			return joinKey(key, path[strings.Index(path, part):])
		}
		next, name := at.child(part)
		if next == nil {
			return key
		}
		key, at = joinKey(key, name), next
	}
	return key
}
