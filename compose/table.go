package compose

import (
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// treatment is what Maru does with a key of the specification.
type treatment string

const (
	honored treatment = "honored" // it has the effect that the specification says, or means says
	warned  treatment = "warned"  // it is left out, which the app can live with, and said so
	refused treatment = "refused" // the app would not be what its file says
)

// row is the treatment of one key.
type row struct {
	key       string
	treatment treatment
	means     string // what the key means here
	instead   string // what to write instead
	holds     bool   // honored because it is so anyway: the app does not change by it
	whole     bool   // the keys below share the row
	but       []exception
}

// exception is another treatment of some of a key's values.
type exception struct {
	values    string // in words
	when      func(*node) bool
	treatment treatment
	means     string
	instead   string
}

func honor(key, means string) row { return row{key: key, treatment: honored, means: means} }

// anyway is for what is so in any case.
func anyway(key, means string) row {
	return row{key: key, treatment: honored, means: means, holds: true}
}

func warnOf(key, means, instead string) row {
	return row{key: key, treatment: warned, means: means, instead: instead}
}

func refuse(key, means, instead string) row {
	return row{key: key, treatment: refused, means: means, instead: instead}
}

// all gives the row for the key and all keys below it.
func (r row) all() row {
	r.whole = true
	return r
}

func (r row) butWarned(values string, when func(*node) bool, means, instead string) row {
	r.but = append(slices.Clip(r.but), exception{values, when, warned, means, instead})
	return r
}

func (r row) butRefused(values string, when func(*node) bool, means, instead string) row {
	r.but = append(slices.Clip(r.but), exception{values, when, refused, means, instead})
	return r
}

// table gives the rows of all keys, by key. It is the source of docs/compose.md.
var table = sync.OnceValue(func() map[string]row {
	rows := map[string]row{}
	for _, r := range slices.Concat(topRows(), containerRows(), hostRows(), mountRows(), serviceRows(), networkRows(), namingRows(), buildRows(), developRows(), deployRows(), limitRows()) {
		if _, ok := rows[r.key]; ok {
			panic("compose: two rows for " + r.key)
		}
		rows[r.key] = r
	}
	return rows
})

// rowOf gives the row of a key: its own, or that of a key above it that is for all below.
func rowOf(key string) (row, bool) {
	if r, ok := table()[key]; ok {
		return r, true
	}
	for at := key; ; {
		i := strings.LastIndex(at, ".")
		if i < 0 {
			return row{}, false
		}
		at = at[:i]
		if r, ok := table()[at]; ok && r.whole {
			return r, true
		}
	}
}

// judge gives the treatment of a value of the key.
func (r row) judge(n *node) exception {
	for _, e := range r.but {
		if e.when(n) {
			return e
		}
	}
	if r.treatment != honored && n.isEmpty() {
		return exception{treatment: honored}
	}
	return exception{treatment: r.treatment, means: r.means, instead: r.instead}
}

// treatAll tells of each key of the app that is not honored. What belongs to services that are not
// active is passed over.
func (l *load) treatAll() {
	l.treat(l.src, specification(), "", "")
}

func (l *load) treat(n *node, k *keyNode, path, key string) {
	switch n.kind {
	case listNode:
		for i, item := range n.items {
			l.treat(item, k, joinIndex(path, i), key)
		}
	case mappingNode:
		for _, name := range n.names {
			l.treatKey(n.fields[name], k, path, key, name)
		}
	}
}

func (l *load) treatKey(n *node, k *keyNode, path, key, name string) {
	child, called := k.child(name)
	if child == nil || (strings.HasPrefix(name, "x-") && called != "*") {
		return
	}
	if key == "services" && !l.active(n) {
		return
	}
	at, childKey := joinKey(path, name), joinKey(key, called)
	if called != "*" {
		if r, ok := table()[childKey]; ok {
			e := r.judge(n)
			l.tell(n.key, at, childKey, e)
			if e.treatment != honored || r.whole {
				return
			}
		}
	}
	l.treat(n, child, at, childKey)
}

// tell reports a treatment other than honored.
func (l *load) tell(at position, path, key string, e exception) {
	switch e.treatment {
	case warned:
		l.report(&l.warnings, Issue{Path: path, Key: key, Message: e.means, Hint: e.instead}, at)
	case refused:
		l.report(&l.errors, Issue{Path: path, Key: key, Message: e.means, Hint: e.instead, Kind: maru.Unsupported}, at)
	}
}

// active tells whether a service is part of the app with the profiles that are on.
func (l *load) active(service *node) bool {
	profiles := service.get("profiles")
	if profiles == nil || len(profiles.items) == 0 || slices.Contains(l.profiles, "*") {
		return true
	}
	for _, p := range profiles.items {
		if slices.Contains(l.profiles, p.text()) {
			return true
		}
	}
	return false
}

// The conditions of exceptions.

// elsewhere is for conditions that are not in the value alone: the exception is told where the app is made.
func elsewhere(*node) bool { return false }

func is(values ...string) func(*node) bool {
	return func(n *node) bool { return n.kind == scalarNode && slices.Contains(values, n.text()) }
}

func isNot(values ...string) func(*node) bool {
	return func(n *node) bool {
		return n.kind == scalarNode && n.text() != "" && !slices.Contains(values, n.text())
	}
}

func begins(prefixes ...string) func(*node) bool {
	return func(n *node) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(n.text(), p) })
	}
}
