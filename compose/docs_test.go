package compose

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files and docs/compose.md anew")

const (
	docsFile  = "../docs/compose.md"
	keysBegin = "<!-- The tables below are made of the table in compose/, by go test ./compose -run TestDocs -update. -->\n"
)

// TestDocsAreFresh holds docs/compose.md against the table of treatments.
func TestDocsAreFresh(t *testing.T) {
	data, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	prose, _, ok := strings.Cut(string(data), keysBegin)
	if !ok {
		t.Fatalf("%s lacks the line %q", docsFile, keysBegin)
	}
	want := prose + keysBegin + keyTables()
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s is not fresh: go test ./compose -run TestDocs -update", docsFile)
	}
	for _, key := range specificationKeys() {
		if strings.Count(want, "\n| `"+key+"` |") != 1 {
			t.Errorf("%s does not have one row for the key %s", docsFile, key)
		}
	}
	for _, key := range slices.Concat(serviceKeys, routeFields) {
		if !strings.Contains(prose, "`"+key+"`") {
			t.Errorf("%s does not speak of the key %s of x-maru", docsFile, key)
		}
	}
}

// sections are the parts of the key tables: keys that begin with the prefix and with none that is longer.
var sections = []struct{ title, prefix string }{
	{"Top of the file", ""},
	{"Services", "services.*."},
	{"Healthchecks", "services.*.healthcheck"},
	{"Dependencies", "services.*.depends_on"},
	{"Ports", "services.*.ports"},
	{"Networks of a service", "services.*.networks"},
	{"Mounts", "services.*.volumes"},
	{"Configs and secrets of a service", "services.*.configs"},
	{"", "services.*.secrets"},
	{"Builds", "services.*.build"},
	{"Deploy", "services.*.deploy"},
	{"Networks", "networks."},
	{"Volumes", "volumes."},
	{"Configs", "configs."},
	{"Secrets", "secrets."},
}

func keyTables() string {
	var keys []string
	for key := range table() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var out strings.Builder
	counts := map[treatment]int{}
	for _, key := range specificationKeys() {
		r, _ := rowOf(key)
		counts[r.treatment]++
	}
	fmt.Fprintf(&out, "\nOf the specification's %d keys %d are honored, %d warned about and %d refused.\n",
		len(specificationKeys()), counts[honored], counts[warned], counts[refused])
	for i, s := range sections {
		if s.title != "" {
			fmt.Fprintf(&out, "\n### %s\n\n| key | | what it means here | instead |\n|---|---|---|---|\n", s.title)
		}
		for _, key := range keys {
			if sectionOf(key) == i {
				writeRow(&out, table()[key])
			}
		}
	}
	out.WriteString("\n### Keys that are treated with the one above them\n\n| key | | with |\n|---|---|---|\n")
	for _, key := range specificationKeys() {
		if r, _ := rowOf(key); r.key != key {
			fmt.Fprintf(&out, "| `%s` | %s | `%s` |\n", key, r.treatment, r.key)
		}
	}
	return out.String()
}

func sectionOf(key string) int {
	best := 0
	for i, s := range sections {
		if (key == s.prefix || strings.HasPrefix(key, s.prefix)) && len(s.prefix) > len(sections[best].prefix) &&
			(strings.HasSuffix(s.prefix, ".") || key == s.prefix || strings.HasPrefix(key, s.prefix+".")) {
			best = i
		}
	}
	return best
}

func writeRow(out *strings.Builder, r row) {
	means, instead := []string{r.means}, []string{}
	if r.instead != "" {
		instead = append(instead, r.instead)
	}
	for _, e := range r.but {
		means = append(means, fmt.Sprintf("**%s**: %s. %s", e.treatment, e.values, e.means))
		instead = append(instead, e.instead)
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", r.key, r.treatment, cell(means), cell(slices.Compact(instead)))
}

func cell(lines []string) string {
	return strings.ReplaceAll(strings.Join(lines, "<br>"), "|", "\\|")
}

// TestDocsExamplesLoad loads the compose files in docs/compose.md.
func TestDocsExamplesLoad(t *testing.T) {
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
		got := loadText(t, t.TempDir(), text)
		if len(got.Issues)+len(got.Result.Warnings) > 0 {
			t.Errorf("%v %v in:\n%s", got.Issues, got.Result.Warnings, text)
		}
	}
}
