package compose

import (
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// faults reads one fault or a list of them.
func (d decoder) faults(n *node, path string) []maru.Fault {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != listNode {
		return []maru.Fault{d.fault(n, path)}
	}
	var all []maru.Fault
	for i, item := range n.items {
		all = append(all, d.fault(item, joinIndex(path, i)))
	}
	return all
}

func (d decoder) fault(n *node, path string) maru.Fault {
	var f maru.Fault
	if !d.mapping(n, path, "from", "methods", "paths", "percent", "delay", "status", "cut", "corrupt") {
		return f
	}
	before := len(d.l.errors)
	at := func(key string) (*node, string) { return n.get(key), joinKey(path, key) }
	f.From = d.callers(at("from"))
	f.Rule.Methods = d.methods(at("methods"))
	f.Rule.Paths = d.prefixes(at("paths"))
	f.Percent = d.percent(at("percent"))
	f.Delay = d.duration(at("delay"))
	status, statusPath := at("status")
	f.Status = d.integer(status, statusPath, 200, 599)
	f.Cut = d.boolean(at("cut"))
	f.Corrupt = d.boolean(at("corrupt"))
	if err := f.Validate(); err != nil && len(d.l.errors) == before {
		d.l.failErr(n.key, path, maru.Invalid, err)
	}
	return f
}

// callers reads one or more names of services, or the gateway.
func (d decoder) callers(n *node, path string) []string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	all := d.list(n, path)
	if n.kind == mappingNode {
		return nil
	}
	for i, item := range n.list().items {
		d.callerName(item, joinIndex(path, i))
	}
	return slices.Clip(all)
}

// percent reads a part of a hundred, with or without the sign.
func (d decoder) percent(n *node, path string) float64 {
	if n == nil || n.kind == nullNode {
		return 0
	}
	value, err := strconv.ParseFloat(strings.TrimSuffix(n.text(), "%"), 64)
	if n.kind != scalarNode || err != nil || !(value > 0 && value <= 100) {
		d.invalid(n, path, "must be more than 0 and at most 100 percent", "write it as 5%")
		return 0
	}
	return value
}
