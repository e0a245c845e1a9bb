package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// decoder reads values out of nodes and reports, at its place, what is not as it should be.
type decoder struct {
	l *load
}

func (d decoder) invalid(n *node, path, message, hint string) {
	d.l.fail(n.key, path, maru.Invalid, message, hint)
}

// mapping tells whether n is a mapping, and reports keys that are not among the known.
func (d decoder) mapping(n *node, path string, known ...string) bool {
	if n.kind != mappingNode {
		d.invalid(n, path, fmt.Sprintf("is %s; it must be a mapping with %s", n.kind, oneOf(known)), "")
		return false
	}
	for _, name := range n.names {
		if !slices.Contains(known, name) && !strings.HasPrefix(name, "x-") {
			d.invalid(n.fields[name], joinKey(path, name), fmt.Sprintf("there is no key %s %s", name, inside(path)), didYouMean(name, known))
		}
	}
	return true
}

func (d decoder) text(n *node, path string) string {
	if n == nil || n.kind == nullNode {
		return ""
	}
	if n.kind != scalarNode {
		d.invalid(n, path, fmt.Sprintf("is %s; it must be a string", n.kind), "")
	}
	return n.text()
}

// choice reads one of the words.
func (d decoder) choice(n *node, path string, words ...string) string {
	text := d.text(n, path)
	if n != nil && n.kind == scalarNode && !slices.Contains(words, text) {
		d.invalid(n, path, fmt.Sprintf("is %q; it must be %s", text, oneOf(words)), didYouMean(text, words))
		return ""
	}
	return text
}

func (d decoder) boolean(n *node, path string) bool {
	if n == nil || n.kind == nullNode {
		return false
	}
	value, err := strconv.ParseBool(n.text())
	if n.kind != scalarNode || err != nil {
		d.invalid(n, path, "must be true or false", "")
	}
	return value
}

func (d decoder) integer(n *node, path string, least, most int) int {
	if n == nil || n.kind == nullNode {
		return 0
	}
	value, err := strconv.Atoi(n.text())
	if n.kind != scalarNode || err != nil || value < least || value > most {
		d.invalid(n, path, fmt.Sprintf("must be a number from %d to %d", least, most), "")
		return 0
	}
	return value
}

// duration reads a time as in compose, such as 90s or 1h30m. It must be longer than nothing.
func (d decoder) duration(n *node, path string) time.Duration {
	if n == nil || n.kind == nullNode {
		return 0
	}
	value, err := parseDuration(n.text())
	if n.kind != scalarNode || err != nil || value <= 0 {
		d.invalid(n, path, fmt.Sprintf("%q is not a duration", n.text()), "write it as 500ms, 30s, 5m or 1h30m")
		return 0
	}
	return value
}

// parseDuration is compose's, but for panics on odd input.
func parseDuration(text string) (value time.Duration, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("invalid duration %q", text)
		}
	}()
	var duration types.Duration
	err = duration.DecodeMapstructure(text)
	return time.Duration(duration), err
}

// list reads one string or a list of them.
func (d decoder) list(n *node, path string) []string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind == mappingNode {
		d.invalid(n, path, "is a mapping; it must be a string or a list of strings", "")
		return nil
	}
	var texts []string
	for i, item := range n.list().items {
		texts = append(texts, d.text(item, joinIndex(path, i)))
	}
	return texts
}

// command reads a command as compose does: a list as it is, a string split into words. A string that
// needs a shell gets one.
func (d decoder) command(n *node, path string) []string {
	if n == nil || n.kind != scalarNode {
		return d.list(n, path)
	}
	text := n.text()
	if strings.ContainsAny(text, "&|;<>()$`*?~#\n") {
		return []string{"/bin/sh", "-c", text}
	}
	words, err := Words(text)
	if err != nil {
		d.invalid(n, path, fmt.Sprintf("%q is not a command: %v", text, err), "write it as a list")
	}
	return words
}

// Words splits a command into words as compose does, with the quotes of a shell.
func Words(text string) ([]string, error) {
	var words types.ShellCommand
	err := words.DecodeMapstructure(text)
	return words, err
}

func (d decoder) stringMap(n *node, path string) map[string]string {
	if n == nil || n.kind == nullNode {
		return nil
	}
	if n.kind != mappingNode {
		d.invalid(n, path, fmt.Sprintf("is %s; it must be a mapping", n.kind), "")
		return nil
	}
	texts := map[string]string{}
	for _, name := range n.names {
		texts[name] = d.text(n.fields[name], joinKey(path, name))
	}
	return texts
}
