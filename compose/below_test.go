package compose

import (
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"go.yaml.in/yaml/v4"
)

// TestKeysBelowShareTheRow tries each key that has no row of its own: a file made from the schema, with
// that key in it, is treated as the row above says.
func TestKeysBelowShareTheRow(t *testing.T) {
	g := generator{defs: decodeSchema([]byte(schema.Schema))["$defs"].(map[string]any)}
	root := decodeSchema([]byte(schema.Schema))
	dir := t.TempDir()
	count := 0
	for _, key := range specificationKeys() {
		r, _ := rowOf(key)
		if r.key == key || r.holds {
			continue
		}
		count++
		value, ok := g.value(root, strings.Split(key, "."), nil)
		if !ok {
			t.Errorf("no file can be made with the key %s", key)
			continue
		}
		doc := value.(map[string]any)
		addImage(doc)
		data, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		got := loadText(t, dir, string(data))
		told := got.Issues
		if r.treatment == warned {
			told = got.Result.Warnings
		}
		if !slices.ContainsFunc(told, func(i Issue) bool { return i.Key == r.key }) {
			t.Errorf("%s is not %s as %s is: %v %v\n%s", key, r.treatment, r.key, got.Issues, got.Result.Warnings, data)
		}
		if r.treatment == warned && len(got.Issues) > 0 {
			t.Errorf("a file with %s does not load: %v\n%s", key, got.Issues, data)
		}
	}
	if count < 300 {
		t.Errorf("%d keys were tried only", count)
	}
}

// addImage makes sure that there is a service, and that each has an image and its network.
func addImage(doc map[string]any) {
	services, _ := doc["services"].(map[string]any)
	if services == nil {
		services = map[string]any{"web": map[string]any{}}
		doc["services"] = services
	}
	for _, s := range services {
		service := s.(map[string]any)
		service["image"] = "nginx"
		if networks, ok := service["networks"].(map[string]any); ok {
			doc["networks"] = map[string]any{}
			for name := range networks {
				doc["networks"].(map[string]any)[name] = map[string]any{}
			}
		}
		if networks, ok := doc["networks"].(map[string]any); ok && service["networks"] == nil {
			service["networks"] = sortedKeys(networks)
		}
	}
}

// generator makes values that a JSON schema allows.
type generator struct {
	defs map[string]any
}

// value makes a value that has the path in it. Definitions that are being made are not gone into again.
func (g generator) value(s map[string]any, path []string, seen []string) (any, bool) {
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		if slices.Contains(seen, name) {
			return nil, false
		}
		return g.value(g.defs[name].(map[string]any), path, append(slices.Clip(seen), name))
	}
	for _, combinator := range []string{"oneOf", "anyOf", "allOf"} {
		list, _ := s[combinator].([]any)
		for _, alternative := range list {
			sub := alternative.(map[string]any)
			if len(sub) == 1 && sub["required"] != nil {
				continue
			}
			if made, ok := g.value(sub, path, seen); ok {
				return g.complete(s, made), true
			}
		}
	}
	if len(path) > 0 {
		if items, ok := s["items"].(map[string]any); ok {
			made, ok := g.value(items, path, seen)
			return []any{made}, ok
		}
		return g.object(s, path, seen)
	}
	return g.leaf(s, seen)
}

func (g generator) object(s map[string]any, path, seen []string) (any, bool) {
	properties, _ := s["properties"].(map[string]any)
	if sub, ok := properties[path[0]].(map[string]any); ok && path[0] != "*" {
		made, ok := g.value(sub, path[1:], seen)
		return g.complete(s, map[string]any{path[0]: hinted(path[0], made)}), ok
	}
	patterns, _ := s["patternProperties"].(map[string]any)
	for _, pattern := range sortedKeys(patterns) {
		if sub, ok := patterns[pattern].(map[string]any); ok && pattern != "^x-" && path[0] == "*" {
			made, ok := g.value(sub, path[1:], seen)
			return map[string]any{"web": made}, ok
		}
	}
	return nil, false
}

// complete adds the properties that a mapping must have.
func (g generator) complete(s map[string]any, made any) any {
	m, ok := made.(map[string]any)
	if !ok {
		return made
	}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(map[string]any)
	for _, r := range required {
		name := r.(string)
		if _, ok := m[name]; ok {
			continue
		}
		if value, ok := g.value(properties[name].(map[string]any), nil, nil); ok {
			m[name] = hinted(name, value)
		}
	}
	if properties["manual"] != nil && m["manual"] == nil && m["schedule"] == nil {
		m["manual"] = true // triggers need one of the two
	}
	return m
}

func (g generator) leaf(s map[string]any, seen []string) (any, bool) {
	if enum, ok := s["enum"].([]any); ok {
		return enum[0], true
	}
	var types []string
	switch t := s["type"].(type) {
	case string:
		types = []string{t}
	case []any:
		for _, one := range t {
			types = append(types, one.(string))
		}
	}
	switch {
	case slices.Contains(types, "boolean"):
		return true, true
	case slices.Contains(types, "integer"), slices.Contains(types, "number"):
		return 1, true
	case slices.Contains(types, "string"):
		return "a=1", true
	case slices.Contains(types, "array"):
		items, _ := s["items"].(map[string]any)
		made, ok := g.value(items, nil, seen)
		return []any{made}, ok
	case slices.Contains(types, "object"):
		m := map[string]any{}
		if names := sortedKeys(anyMap(s["properties"])); len(names) > 0 {
			if value, ok := g.value(anyMap(s["properties"])[names[0]].(map[string]any), nil, seen); ok {
				m[names[0]] = hinted(names[0], value)
			}
		} else {
			m["k"] = "v"
		}
		return g.complete(s, m), true
	case slices.Contains(types, "null"):
		return nil, false
	}
	return "x", true
}

func anyMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// hinted gives a value that compose-go takes where the schema says any string.
func hinted(name string, value any) any {
	switch name {
	case "delay", "monitor", "interval", "timeout":
		return "1s"
	case "subnet", "ip_range":
		return "10.1.0.0/16"
	case "gateway":
		return "10.1.0.1"
	}
	return value
}
