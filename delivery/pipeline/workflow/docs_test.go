package workflow

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"

	"github.com/marucloud/maru/delivery/pipeline/expr"
)

var update = flag.Bool("update", false, "write docs/workflows.md anew")

const (
	docsFile  = "../../../docs/workflows.md"
	keysBegin = "<!-- The tables below are made of the tables in delivery/pipeline/workflow, by go test ./delivery/pipeline/workflow -run TestDocs -update. -->\n"
)

// TestDocsAreFresh holds docs/workflows.md against the tables.
func TestDocsAreFresh(t *testing.T) {
	data, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	prose, _, ok := strings.Cut(string(data), keysBegin)
	if !ok {
		t.Fatalf("%s lacks the line %q", docsFile, keysBegin)
	}
	want := prose + keysBegin + tables()
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s is not fresh: go test ./delivery/pipeline/workflow -run TestDocs -update", docsFile)
	}
	for _, name := range slices.Concat(expr.Functions(), BuiltinNames()) {
		if !strings.Contains(strings.ToLower(want), "`"+name) {
			t.Errorf("%s does not speak of %s", docsFile, name)
		}
	}
}

// TestDocsExamples parses the workflows in docs/workflows.md.
func TestDocsExamples(t *testing.T) {
	data, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("there are no examples")
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		if _, issues := Parse("docs.yml", []byte(text)); len(issues) > 0 {
			t.Errorf("%v in:\n%s", issues, text)
		}
	}
}

func tables() string {
	var out strings.Builder
	counts := map[treatment]int{}
	for _, r := range table() {
		counts[r.treatment]++
	}
	fmt.Fprintf(&out, "\nOf the language's %d keys %d are done, %d left out with a warning and %d refused.\n", len(table()), counts[honored], counts[warned], counts[refused])
	for _, s := range []struct {
		title string
		rows  []row
	}{{"Top of the file", topRows()}, {"Events", eventRows()}, {"Jobs", jobRows()}, {"Containers and services", containerRows()}, {"Steps", stepRows()}} {
		fmt.Fprintf(&out, "\n### %s\n\n| key | | what it means here | instead |\n|---|---|---|---|\n", s.title)
		for _, r := range s.rows {
			means, instead := []string{r.means}, []string{r.instead}
			for _, e := range r.but {
				means = append(means, fmt.Sprintf("**%s**: %s. %s", e.treatment, e.values, e.means))
				instead = append(instead, e.instead)
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", r.key, r.treatment, cell(means), cell(instead))
		}
	}
	out.WriteString("\n### Actions that are built in\n")
	for _, b := range builtins {
		fmt.Fprintf(&out, "\n**`%s`** %s", b.Name, b.Means)
		if len(b.Outputs) > 0 {
			fmt.Fprintf(&out, " It gives `%s`.", strings.Join(b.Outputs, "`, `"))
		}
		out.WriteString("\n\n| input | default | means |\n|---|---|---|\n")
		for _, in := range b.Inputs {
			means := in.Means
			if in.Only != nil || in.Instead != "" {
				means = "Refused but for the default. " + means
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", in.Name, in.Default, cell([]string{means}))
		}
	}
	return out.String()
}

func cell(lines []string) string {
	lines = slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return s == "" })
	return strings.ReplaceAll(strings.Join(lines, "<br>"), "|", "\\|")
}

// TestEveryKeyHasARow holds the table against the keys that actionlint knows: a key that is not there
// has it tell which are.
func TestEveryKeyHasARow(t *testing.T) {
	const head, job, step = "on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{run: x}]\n", "    ", "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n"
	known := map[string]bool{}
	for prefix, text := range map[string]string{
		"":                               head + "zzz: 1\n",
		"defaults.run.":                  head + "defaults: {run: {shell: sh, zzz: 1}}\n",
		"concurrency.":                   head + "concurrency: {group: x, zzz: 1}\n",
		"on.push.":                       strings.Replace(head, "push", "{push: {zzz: 1}}", 1),
		"on.workflow_dispatch.inputs.*.": strings.Replace(head, "push", "{workflow_dispatch: {inputs: {a: {zzz: 1}}}}", 1),
		"on.workflow_call.":              strings.Replace(head, "push", "{workflow_call: {zzz: 1}}", 1),
		"on.workflow_call.inputs.*.":     strings.Replace(head, "push", "{workflow_call: {inputs: {a: {type: string, zzz: 1}}}}", 1),
		"on.workflow_call.secrets.*.":    strings.Replace(head, "push", "{workflow_call: {secrets: {a: {zzz: 1}}}}", 1),
		"on.workflow_call.outputs.*.":    strings.Replace(head, "push", "{workflow_call: {outputs: {a: {value: x, zzz: 1}}}}", 1),
		"jobs.*.":                        head + job + "zzz: 1\n",
		"jobs.*.runs-on.":                strings.Replace(head, "runs-on: x", "runs-on: {labels: x, zzz: 1}", 1),
		"jobs.*.strategy.":               head + job + "strategy: {zzz: 1}\n",
		"jobs.*.container.":              head + job + "container: {image: x, zzz: 1}\n",
		"jobs.*.container.credentials.":  head + job + "container: {image: x, credentials: {username: a, password: b, zzz: 1}}\n",
		"jobs.*.services.*.":             head + job + "services: {s: {image: x, zzz: 1}}\n",
		"jobs.*.services.*.credentials.": head + job + "services: {s: {image: x, credentials: {username: a, password: b, zzz: 1}}}\n",
		"jobs.*.defaults.run.":           head + job + "defaults: {run: {zzz: 1}}\n",
		"jobs.*.concurrency.":            head + job + "concurrency: {group: x, zzz: 1}\n",
		"jobs.*.steps.":                  step + "      - {run: x, zzz: 1}\n      - {uses: y, zzz: 1}\n",
	} {
		_, found := actionlint.Parse([]byte(text))
		keys := 0
		for _, e := range found {
			_, expected, ok := strings.Cut(e.Message, "expected one of ")
			if !ok {
				continue
			}
			for _, m := range regexp.MustCompile(`"([a-z-]+)"`).FindAllStringSubmatch(expected, -1) {
				known[prefix+m[1]] = true
				keys++
			}
		}
		if keys == 0 {
			t.Errorf("nothing is learned of the keys below %q: %v", prefix, found)
		}
	}
	elsewhere := []string{"on.push.workflows", "on.push.types"} // of other events
	for key := range known {
		if _, ok := table()[key]; !ok && !slices.Contains(elsewhere, key) {
			t.Errorf("the key %s has no row", key)
		}
	}
	if len(known) < 60 {
		t.Errorf("%d keys only", len(known))
	}
	for key, r := range table() {
		if r.means == "" || r.treatment != honored && r.instead == "" {
			t.Errorf("the row %s does not say what the key means here, or what to write instead", key)
		}
	}
	for event := range actionlint.AllWebhookTypes {
		if _, issues := Parse("w.yml", []byte(strings.Replace(simple, "push", event, 1))); !slices.Contains(ourEvents, event) && len(issues) == 0 {
			t.Errorf("nothing is said of the event %s", event)
		}
	}
}
