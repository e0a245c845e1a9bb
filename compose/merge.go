package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"

	"github.com/marucloud/maru"
)

// merging is how a key of a later file goes over that of an earlier one, where it isn't the usual way:
// mappings by key, lists one after the other, all else replaced.
type merging int

const (
	usual merging = iota
	replaced
	byName       // KEY=VALUE entries, as a list or a mapping
	asReferences // names, as a list or a mapping
	asList       // one or a list
	asBuild
	asLogging
)

// mergings has the exceptions by key. It follows compose-go's, which decides; here it is about places.
var mergings = map[string]merging{
	"services.*.annotations":               byName,
	"services.*.build":                     asBuild,
	"services.*.build.args":                byName,
	"services.*.build.additional_contexts": byName,
	"services.*.build.extra_hosts":         asList,
	"services.*.build.labels":              byName,
	"services.*.command":                   replaced,
	"services.*.depends_on":                asReferences,
	"services.*.deploy.labels":             byName,
	"services.*.dns":                       asList,
	"services.*.dns_opt":                   asList,
	"services.*.dns_search":                asList,
	"services.*.entrypoint":                replaced,
	"services.*.env_file":                  asList,
	"services.*.environment":               byName,
	"services.*.extra_hosts":               asList,
	"services.*.healthcheck.test":          replaced,
	"services.*.label_file":                asList,
	"services.*.labels":                    byName,
	"services.*.logging":                   asLogging,
	"services.*.models":                    asReferences,
	"services.*.networks":                  asReferences,
	"services.*.sysctls":                   byName,
	"services.*.tmpfs":                     asList,
	"networks.*.labels":                    byName,
	"volumes.*.labels":                     byName,
	"secrets.*.labels":                     byName,
	"configs.*.labels":                     byName,
}

// merge lays over on base. Neither is changed; either may be nil.
func (l *load) merge(base, over *node, path ...string) *node {
	if over == nil {
		return base
	}
	if base == nil || over.override || base.reset {
		return over.settled()
	}
	if over.reset {
		return nil
	}
	switch mergings[keyOf(path)] {
	case replaced:
		return over
	case byName:
		base, over = base.byName(), over.byName()
	case asReferences:
		base, over = base.references(path), over.references(path)
	case asList:
		base, over = base.list(), over.list()
	case asBuild:
		base, over = base.build(), over.build()
	case asLogging:
		b, o := base.get("driver"), over.get("driver")
		if b != nil && o != nil && b.text() != o.text() {
			return over
		}
	}
	switch {
	case over.kind == nullNode:
		return base
	case base.kind == mappingNode && over.kind == mappingNode:
		return l.mergeMappings(base, over, path)
	case base.kind == listNode && over.kind == listNode:
		return l.mergeLists(base, over, path)
	case base.kind == mappingNode || base.kind == listNode:
		l.fail(over.key, dotted(path), maru.Invalid,
			fmt.Sprintf("is %s here, and %s at %s:%d", over.kind, base.kind, base.key.file, base.key.line),
			"write it the same way in both places")
		return base
	}
	return over
}

func (k nodeKind) String() string {
	return [...]string{"null", "a single value", "a list", "a mapping"}[k]
}

func (l *load) mergeMappings(base, over *node, path []string) *node {
	merged := newMapping(over)
	for _, name := range base.names {
		o := over.fields[name]
		if o != nil && o.reset {
			continue
		}
		if m := l.merge(base.fields[name], o, append(slices.Clip(path), name)...); m != nil {
			merged.set(name, m)
		}
	}
	for _, name := range over.names {
		if base.fields[name] == nil && !over.fields[name].reset {
			merged.set(name, over.fields[name].settled())
		}
	}
	return merged
}

// settled takes out what a !reset left behind below n.
func (n *node) settled() *node {
	if n.kind != mappingNode {
		return n
	}
	made := newMapping(n)
	for _, name := range n.names {
		if !n.fields[name].reset {
			made.set(name, n.fields[name].settled())
		}
	}
	return made
}

func (l *load) mergeLists(base, over *node, path []string) *node {
	merged := &node{kind: listNode, pos: over.pos, key: over.key}
	key, places := keyOf(path), map[string]int{}
	for _, item := range slices.Concat(base.items, over.items) {
		id := identity(item, key)
		if i, ok := places[id]; ok {
			merged.items[i] = item
			continue
		}
		places[id] = len(merged.items)
		merged.items = append(merged.items, item)
	}
	return merged
}

// identity tells which items of two lists stand for the same thing: a volume by its target, for
// instance.
func identity(item *node, key string) string {
	switch key {
	case "services.*.volumes":
		if item.kind == scalarNode {
			if volume, err := format.ParseVolume(item.text()); err == nil {
				return volume.Target
			}
		}
		return item.get("target").text()
	case "services.*.configs", "services.*.secrets":
		if target := item.get("target").text(); target != "" {
			return target
		}
		return item.text() + item.get("source").text()
	case "services.*.devices":
		if parts := strings.Split(item.text(), ":"); len(parts) > 1 {
			return parts[1]
		}
		return item.text() + item.get("target").text()
	case "services.*.env_file":
		return item.text() + item.get("path").text()
	}
	return fmt.Sprint(item.plain())
}

// byName gives KEY=VALUE entries as a mapping.
func (n *node) byName() *node {
	if n.kind == mappingNode {
		return n
	}
	m := newMapping(n)
	for _, item := range n.items {
		name, value, ok := strings.Cut(item.text(), "=")
		field := &node{pos: item.pos, key: item.key}
		if ok {
			field.kind, field.value = scalarNode, value
		}
		m.set(name, field)
	}
	return m
}

// references gives a list of names as a mapping.
func (n *node) references(path []string) *node {
	if n.kind == mappingNode {
		return n
	}
	m := newMapping(n)
	for _, item := range n.list().items {
		field := &node{pos: item.pos, key: item.key}
		if last(path) == "depends_on" {
			field = newMapping(item)
			field.set("condition", &node{kind: scalarNode, value: string(maru.Started), pos: item.pos, key: item.key})
		}
		m.set(item.text(), field)
	}
	return m
}

// list gives one value, or a mapping's KEY=VALUE entries, as a list.
func (n *node) list() *node {
	made := &node{kind: listNode, pos: n.pos, key: n.key}
	switch n.kind {
	case listNode:
		return n
	case scalarNode:
		made.items = []*node{n}
	case mappingNode:
		for _, name := range n.names {
			for _, value := range n.fields[name].list().items {
				made.items = append(made.items, &node{kind: scalarNode, value: name + "=" + value.text(), pos: value.pos, key: n.fields[name].key})
			}
		}
	}
	return made
}

func (n *node) build() *node {
	if n.kind != scalarNode {
		return n
	}
	m := newMapping(n)
	m.set("context", n)
	return m
}

func last(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

// keyOf gives the specification's key for a path without indices: names that the user chose become *.
func keyOf(path []string) string {
	key := slices.Clone(path)
	if len(key) > 1 {
		key[1] = "*"
	}
	return dotted(key)
}
