package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/marucloud/maru"
)

// The vectors are txtar archives: the files of an app as people publish them, and what Maru makes of
// it, in "want.json" and "want.warnings", or "want.errors". A comment may say where to look and with
// what, as in "dir: deploy" and "files: a.yaml b.yaml".
const (
	wantApp      = "want.json"
	wantWarnings = "want.warnings"
	wantErrors   = "want.errors"
)

func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Errorf("there are %d vectors only", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			runVector(t, file, func(t *testing.T, r Result, issues *Issues) []txtar.File {
				if issues != nil {
					t.Fatalf("it does not load:\n%s", told(issues.All))
				}
				return []txtar.File{{Name: wantApp, Data: compactJSON(t, r.App)}, {Name: wantWarnings, Data: told(r.Warnings)}}
			})
		})
	}
}

func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Errorf("there are %d invalid files only", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			runVector(t, file, func(t *testing.T, _ Result, issues *Issues) []txtar.File {
				if issues == nil {
					t.Fatal("it loads")
				}
				kind := maru.KindOf(issues)
				if kind != maru.Invalid && kind != maru.Unsupported {
					t.Errorf("the kind is %s", kind)
				}
				return []txtar.File{{Name: wantErrors, Data: append([]byte(string(kind)+"\n"), told(issues.All)...)}}
			})
		})
	}
}

// runVector unpacks the archive, loads it twice, and holds what give makes of it against the archive.
func runVector(t *testing.T, file string, give func(*testing.T, Result, *Issues) []txtar.File) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "app")
	inputs, wants := map[string]string{}, map[string]string{}
	kept := archive.Files[:0:0]
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want.") {
			wants[f.Name] = string(f.Data)
			continue
		}
		inputs[f.Name] = string(f.Data)
		kept = append(kept, f)
	}
	writeFiles(t, dir, inputs)
	o := Options{Dir: dir}
	for line := range strings.Lines(string(archive.Comment)) {
		if sub, ok := strings.CutPrefix(strings.TrimSpace(line), "dir: "); ok {
			o.Dir = filepath.Join(dir, sub)
		}
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "files: "); ok {
			o.Files = strings.Fields(list)
		}
	}
	r, issues := mustLoad(t, o)
	again, _ := mustLoad(t, o)
	if a, b := appJSON(t, r.App), appJSON(t, again.App); a != b {
		t.Errorf("two loads give two apps: %s", cmp.Diff(a, b))
	}
	for _, got := range give(t, r, issues) {
		got.Data = bytes.ReplaceAll(got.Data, []byte(dir), []byte("$DIR"))
		if *update && len(got.Data) > 0 {
			kept = append(kept, got)
		} else if want := wants[got.Name]; !*update && want != string(got.Data) {
			t.Errorf("%s is another (-want +got):\n%s", got.Name, cmp.Diff(want, string(got.Data)))
		}
	}
	if *update {
		archive.Files = kept
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func mustLoad(t testing.TB, o Options) (Result, *Issues) {
	t.Helper()
	r, err := Load(context.Background(), o)
	var issues *Issues
	if err != nil && !errors.As(err, &issues) {
		t.Fatalf("the error of Load is a %T: %v", err, err)
	}
	return r, issues
}

func told(issues []Issue) []byte {
	var out bytes.Buffer
	for _, i := range issues {
		out.WriteString(i.String() + "\n")
		if i.Hint != "" {
			out.WriteString("\t" + i.Hint + "\n")
		}
	}
	return out.Bytes()
}

// compactJSON gives an app's JSON with a line for each service.
func compactJSON(t *testing.T, app maru.App) []byte {
	t.Helper()
	services := app.Services
	app.Services = nil
	var out bytes.Buffer
	out.WriteString(strings.Replace(appJSON(t, app), `"services":null,`, "", 1) + "\n")
	for _, name := range sortedKeys(services) {
		data, err := json.Marshal(services[name])
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(name + " " + string(data) + "\n")
	}
	return out.Bytes()
}
