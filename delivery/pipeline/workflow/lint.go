package workflow

import (
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
)

// laterKeys are keys of the language that came after the linter's release, by the section that they
// are in. The table says what is done with them.
var laterKeys = regexp.MustCompile(`^unexpected key "(snapshot)" for "job" section|` +
	`^unexpected key "(deployment)" for "environment" section|` +
	`^(element of "schedule" section must be mapping and must contain one key "cron"|unexpected key "timezone")|` +
	`"services" section (is|must be)`)

// faultRules are the rules whose findings keep a workflow from running. What other rules find is
// worth a warning.
var faultRules = []string{"syntax-check", "job-needs", "id", "glob", "events"}

// lint has the file checked by actionlint: its shape, and what is likely a mistake.
func (r *reader) lint(data []byte, root *yaml.Node, aliases bool) {
	place := func(line, column int) Position { return Position{line, column} }
	if aliases {
		data, place = writtenOut(root)
	}
	parsed, found := actionlint.Parse(data)
	if parsed != nil {
		rules := []actionlint.Rule{
			actionlint.NewRuleMatrix(), actionlint.NewRuleEvents(), actionlint.NewRuleJobNeeds(), actionlint.NewRuleEnvVar(),
			actionlint.NewRuleID(), actionlint.NewRuleGlob(), actionlint.NewRuleDeprecatedCommands(), actionlint.NewRuleIfCond(),
			actionlint.NewRuleExpression(actionlint.NewLocalActionsCache(nil, io.Discard), actionlint.NewLocalReusableWorkflowCache(nil, "", io.Discard)),
		}
		visitor := actionlint.NewVisitor()
		for _, rule := range rules {
			visitor.AddPass(rule)
		}
		if err := visitor.Visit(parsed); err != nil {
			r.fail(Position{}, "", "%v", err)
		}
		for _, rule := range rules {
			found = append(found, rule.Errs()...)
		}
	}
	for _, e := range found {
		if laterKeys.MatchString(e.Message) {
			continue
		}
		p := place(e.Line, e.Column)
		issue := Issue{File: r.path, Line: p.Line, Column: p.Column, Message: e.Message}
		if slices.Contains(faultRules, e.Kind) && !mild(e.Message) {
			issue.Kind = maru.Invalid
		}
		r.linted = append(r.linted, issue)
	}
}

// mild tells whether a finding of a rule for faults is none here.
func mild(message string) bool {
	return strings.Contains(message, "unknown Webhook event") || strings.Contains(message, "runs too frequently") ||
		strings.Contains(message, "invalid activity type")
}

// takeLinted adds what the linter found to what the reader did, which knows better where both speak
// of one place.
func (r *reader) takeLinted() {
	for _, issue := range r.linted {
		known := slices.ContainsFunc(r.issues, func(i Issue) bool { return i.Line == issue.Line && i.Kind != "" })
		if !known || issue.Kind != "" && issue.Column != 0 && !slices.ContainsFunc(r.issues, func(i Issue) bool {
			return i.Line == issue.Line && i.Column == issue.Column
		}) {
			r.issues = append(r.issues, issue)
		}
	}
}

// writtenOut gives the file with its aliases written out, and tells where a place of it is in the
// original.
func writtenOut(root *yaml.Node) ([]byte, func(line, column int) Position) {
	original := written(root)
	data, err := yaml.Marshal(original)
	var again yaml.Node
	if err == nil {
		err = yaml.Unmarshal(data, &again)
	}
	if err != nil || len(again.Content) == 0 {
		return nil, func(int, int) Position { return at(root) }
	}
	places := map[Position]Position{}
	lines := map[int]Position{}
	var walk func(a, b *yaml.Node)
	walk = func(a, b *yaml.Node) {
		places[at(b)] = at(a)
		if _, ok := lines[b.Line]; !ok {
			lines[b.Line] = at(a)
		}
		for i := range min(len(a.Content), len(b.Content)) {
			walk(a.Content[i], b.Content[i])
		}
	}
	walk(original, again.Content[0])
	return data, func(line, column int) Position {
		if p, ok := places[Position{line, column}]; ok {
			return p
		}
		for ; line > 0; line-- {
			if p, ok := lines[line]; ok {
				return p
			}
		}
		return at(root)
	}
}
