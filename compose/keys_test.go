package compose

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
)

// example is a small compose file for one row of the table, or one exception in it.
type example struct {
	key  string
	want treatment // of an exception; "" for the row's own
	text string
}

func examples(t *testing.T) []example {
	t.Helper()
	data, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for _, part := range strings.Split(string(data), "\n== ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		key, want, _ := strings.Cut(head, " ")
		first, _, _ := strings.Cut(text, ":")
		if strings.HasPrefix(key, "services.*.") && first != "services" {
			text = "services:\n  web:\n    image: nginx\n" + indented(text)
			if key == "services.*.image" {
				text = "services:\n  web:\n    image: nginx\n"
			}
		}
		all = append(all, example{key, treatment(want), text})
	}
	return all
}

func indented(text string) string {
	var out strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		out.WriteString("    " + line + "\n")
	}
	return out.String()
}

// keyFixtures are the files that examples speak of.
var keyFixtures = map[string]string{
	"app.env":              "FROM_FILE=1\n",
	"raw.env":              "QUOTED='kept $HOME'\n",
	"labels.txt":           "team=shop\n",
	"secret.txt":           "s3cret",
	"config.txt":           "listen 80",
	"vars.env":             "SUB_TAG=3.21\n",
	"other.yaml":           "services: {base: {image: base, user: '1000'}, web: {image: web}}\n",
	"sub/compose.yaml":     "services: {side: {image: 'alpine:${SUB_TAG:-latest}', volumes: ['./x:/x']}}\n",
	"ctx/Dockerfile":       "FROM scratch\n",
	"ctx/other.Dockerfile": "FROM scratch\n",
	"Dockerfile":           "FROM scratch\n",
}

func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// loaded is all that a load gives, for comparison.
type loaded struct {
	Result Result
	Issues []Issue
}

func loadText(t testing.TB, dir, text string) loaded {
	t.Helper()
	writeFiles(t, dir, map[string]string{"compose.yaml": text})
	r, err := Load(context.Background(), Options{Dir: dir, Env: map[string]string{"TOKEN": "t0"}})
	var issues *Issues
	if err != nil && !errors.As(err, &issues) {
		t.Fatalf("the error of Load is a %T: %v", err, err)
	}
	if issues != nil {
		return loaded{Issues: issues.All}
	}
	r.Files = nil
	return loaded{Result: r}
}

func TestEveryRowIsTrue(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "site")
	writeFiles(t, dir, keyFixtures)
	tried := map[string]int{}
	for _, e := range examples(t) {
		name := e.key
		if e.want != "" {
			name += " " + string(e.want)
		}
		tried[name]++
		t.Run(name, func(t *testing.T) {
			r, ok := table()[e.key]
			if !ok {
				t.Fatal("there is no such row")
			}
			want := r.treatment
			if e.want != "" {
				want = e.want
			}
			checkExample(t, dir, e, r, want)
		})
	}
	for key, r := range table() {
		if tried[key] == 0 {
			t.Errorf("the row %s has no example", key)
		}
		kinds := map[treatment]int{}
		for _, e := range r.but {
			kinds[e.treatment]++
		}
		for kind, count := range kinds {
			if got := tried[key+" "+string(kind)]; got < count {
				t.Errorf("the row %s has %d values that are %s, and %d examples", key, count, kind, got)
			}
		}
	}
}

func checkExample(t *testing.T, dir string, e example, r row, want treatment) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(e.text), &doc); err != nil {
		t.Fatal(err)
	}
	at := findKey(doc.Content[0], strings.Split(e.key, "."))
	if at == nil {
		t.Fatalf("the example does not have the key:\n%s", e.text)
	}
	place := position{"compose.yaml", at.Line, at.Column}
	got := loadText(t, dir, e.text)
	switch want {
	case refused:
		if !slices.ContainsFunc(got.Issues, func(i Issue) bool {
			return i.Key == e.key && i.Kind == maru.Unsupported && (position{i.File, i.Line, i.Column}) == place && i.Hint != ""
		}) {
			t.Fatalf("no error at %v with a hint: %+v", place, got.Issues)
		}
		return
	case warned:
		if len(got.Issues) > 0 {
			t.Fatalf("it does not load: %v", got.Issues)
		}
		if !slices.ContainsFunc(got.Result.Warnings, func(i Issue) bool {
			return i.Key == e.key && (position{i.File, i.Line, i.Column}) == place
		}) {
			t.Fatalf("no warning at %v: %+v", place, got.Result.Warnings)
		}
		return
	}
	if len(got.Issues) > 0 {
		t.Fatalf("it does not load: %v", got.Issues)
	}
	for _, w := range got.Result.Warnings {
		if w.Key == e.key {
			t.Errorf("there is a warning: %s", w)
		}
	}
	removeKey(doc.Content[0], strings.Split(e.key, "."))
	text, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	without := loadText(t, dir, string(text))
	got.Result.Warnings, without.Result.Warnings = nil, nil
	same := cmp.Equal(got, without)
	if same && !r.holds && !nothingToDo(e.key) {
		t.Errorf("the app is the same without it:\n%s", maru.Raw(got.Result.App))
	}
	if !same && r.holds {
		t.Errorf("the app is another without it: %s", cmp.Diff(got, without))
	}
}

// nothingToDo has the honored keys whose honored value is the default.
func nothingToDo(key string) bool {
	return key == "networks.*.driver" || key == "services.*.logging" || key == "services.*.build.isolation" ||
		key == "volumes.*.driver" || key == "services.*.volumes.bind"
}

func findKey(n *yaml.Node, path []string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			if found := findKey(item, path); found != nil {
				return found
			}
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if path[0] != "*" && n.Content[i].Value != path[0] {
			continue
		}
		if len(path) == 1 {
			return n.Content[i]
		}
		if found := findKey(n.Content[i+1], path[1:]); found != nil {
			return found
		}
	}
	return nil
}

func removeKey(n *yaml.Node, path []string) bool {
	if n.Kind == yaml.SequenceNode {
		return slices.ContainsFunc(n.Content, func(item *yaml.Node) bool { return removeKey(item, path) })
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		switch {
		case path[0] != "*" && n.Content[i].Value != path[0]:
		case len(path) == 1:
			n.Content = slices.Delete(n.Content, i, i+2)
			return true
		case removeKey(n.Content[i+1], path[1:]):
			return true
		}
	}
	return false
}

func appJSON(t testing.TB, app maru.App) string {
	t.Helper()
	data, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
