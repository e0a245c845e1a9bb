package runner

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// command is a workflow command on a line of its own: ::NAME KEY=VALUE,…::TEXT. See
// https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
type command struct {
	name  string
	props map[string]string
	text  string
}

var (
	unescapeText = strings.NewReplacer("%25", "%", "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n")
	unescapeProp = strings.NewReplacer("%25", "%", "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n", "%3A", ":", "%3a", ":", "%2C", ",", "%2c", ",")
)

// parseCommand reads a line that may be a command.
func parseCommand(line string) (command, bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "::")
	if !ok {
		return command{}, false
	}
	head, text, ok := strings.Cut(rest, "::")
	if !ok {
		return command{}, false
	}
	name, props, _ := strings.Cut(head, " ")
	if name == "" || strings.ContainsAny(name, "/\\\"'") {
		return command{}, false
	}
	c := command{name: strings.ToLower(name), props: map[string]string{}, text: unescapeText.Replace(text)}
	for pair := range strings.SplitSeq(props, ",") {
		if key, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok {
			c.props[key] = unescapeProp.Replace(value)
		}
	}
	return c, true
}

// output is where a step's lines go: commands among them are done, the rest is shown.
type output struct {
	job     *job
	step    int
	stopped string // commands are not done until ::TOKEN::
	sink    func(name, value string)
	state   func(name, value string)
	seen    func(line string) // whoever else reads along; may be nil
	refused []string          // commands that are not done any more
}

// line takes one line of a step.
func (o *output) line(text string, begins bool) {
	if begins {
		if c, ok := parseCommand(text); ok && o.do(c) {
			return
		}
	}
	if o.seen != nil {
		o.seen(text)
	}
	o.show(text)
}

func (o *output) show(text string) {
	o.job.emit(maru.RunEvent{Kind: maru.RunLine, Step: o.step, Text: o.job.masks.Replace(text)})
}

// do does a command, and tells whether it is one.
func (o *output) do(c command) bool {
	if o.stopped != "" {
		if c.name == strings.ToLower(o.stopped) {
			o.stopped = ""
			return true
		}
		return false
	}
	switch c.name {
	case "error", "warning", "notice":
		o.annotate(c)
	case "debug":
		if o.job.debug {
			o.job.emit(maru.RunEvent{Kind: maru.RunLine, Step: o.step, Level: "debug", Text: o.job.masks.Replace(c.text)})
		}
	case "group":
		o.job.emit(maru.RunEvent{Kind: maru.RunGroup, Step: o.step, Text: o.job.masks.Replace(c.text)})
	case "endgroup":
		o.job.emit(maru.RunEvent{Kind: maru.RunGroupEnd, Step: o.step})
	case "add-mask":
		o.job.masks.Add(c.text)
	case "stop-commands":
		o.stopped = c.text
	case "set-output":
		o.sink(c.props["name"], c.text)
	case "save-state":
		o.state(c.props["name"], c.text)
	case "set-env", "add-path":
		o.refused = append(o.refused, c.name)
	case "add-matcher", "remove-matcher", "echo":
	default:
		return false
	}
	return true
}

func (o *output) annotate(c command) {
	number := func(key string) int {
		n, _ := strconv.Atoi(c.props[key])
		return max(0, n)
	}
	o.job.annotate(maru.RunEvent{
		Step: o.step, Level: c.name, Text: c.text, Name: c.props["title"], File: c.props["file"], Line: number("line"), Column: number("col"),
	})
}

// maxFileCommand bounds each of the files that a step writes commands to.
const maxFileCommand = 4 << 20

// parsePairs reads a file of NAME=VALUE lines, where NAME<<DELIMITER begins a value of several lines.
func parsePairs(text string) ([][2]string, error) {
	var pairs [][2]string
	rest := strings.TrimPrefix(text, "\uFEFF")
	number := 0
	next := func() (string, bool) {
		if rest == "" {
			return "", false
		}
		line, after, _ := strings.Cut(rest, "\n")
		rest = after
		number++
		return strings.TrimSuffix(line, "\r"), true
	}
	for {
		line, ok := next()
		if !ok {
			return pairs, nil
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals > 0 && (heredoc < 0 || equals < heredoc):
			pairs = append(pairs, [2]string{line[:equals], line[equals+1:]})
		case heredoc > 0 && heredoc+2 < len(line):
			began, delimiter := number, line[heredoc+2:]
			var value []string
			for {
				part, ok := next()
				if !ok {
					return nil, fmt.Errorf("line %d: the delimiter %q does not come again", began, delimiter)
				}
				if part == delimiter {
					break
				}
				value = append(value, part)
			}
			pairs = append(pairs, [2]string{line[:heredoc], strings.Join(value, "\n")})
		default:
			return nil, fmt.Errorf("line %d: %q is neither NAME=VALUE nor NAME<<DELIMITER", number, shorten(line, 60))
		}
	}
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
