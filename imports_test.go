package maru_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/marucloud/maru"

// allowed says which of the module's packages a folder may import, and why. A folder's own
// subfolders of the same role are named where one is shared.
var allowed = []struct {
	folder string
	may    []string
	reason string
}{
	{"cmd", []string{""}, "only here are things put together"},
	{"test", []string{""}, "tests from outside see everything"},
	{"examples", []string{}, "an example stands for a user's program"},
	{"internal", []string{"internal", "."}, "helpers know no role"},
	{"plan", []string{"."}, "decisions are pure"},
	{"compose", []string{".", "internal"}, "an adapter knows the domain only"},
	{"engine/enginetest", []string{".", "internal"}, "the suite knows the contract only"},
	{"engine/local", []string{".", "plan", "internal", "engine/local"}, "siblings never import each other"},
	{"engine/memory", []string{".", "plan", "internal"}, "siblings never import each other"},
	{"engine/remote", []string{".", "plan", "internal"}, "siblings never import each other"},
	{"store/storetest", []string{".", "internal"}, "the suite knows the contract only"},
	{"store", []string{".", "plan", "internal"}, "siblings never import each other"},
	{"traffic", []string{".", "plan", "internal", "traffic"}, "the parts of the data plane share its engine"},
	{"telemetry", []string{".", "plan", "internal", "telemetry"}, "an adapter knows the domain only"},
	{"delivery", []string{".", "plan", "internal", "delivery"}, "an adapter knows the domain only"},
	{"access", []string{".", "plan", "internal", "access"}, "an adapter knows the domain only"},
	{"control", []string{".", "plan", "internal", "control"}, "the shell around the deciders"},
	{"api", []string{"api"}, "generated from the contract"},
	{"server", []string{".", "api", "internal", "server"}, "handlers reach roles through interfaces"},
	{"client", []string{".", "api", "internal"}, "the far side of the same contracts"},
	{"cli", []string{".", "api", "client", "compose", "internal", "cli"}, "commands speak to a server only, and print what the API says"},
	{"web", []string{".", "client", "internal"}, "the dashboard is a client"},
	{"", []string{}, "the nouns know nobody"},
}

type goPackage struct {
	ImportPath, Doc                    string
	Imports                            []string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,GoFiles", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func within(path, folder string) bool {
	return folder == "" || path == folder || strings.HasPrefix(path, folder+"/")
}

func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, rule := range allowed {
			if !within(path, rule.folder) {
				continue
			}
			for _, imported := range p.Imports {
				if !within(imported, module) {
					if path == "" && strings.Contains(strings.Split(imported, "/")[0], ".") {
						t.Errorf("the root package imports %s: it imports the standard library alone", imported)
					}
					continue
				}
				to := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
				ok := false
				for _, m := range rule.may {
					if m == "" || m == "." && to == "" || m != "." && within(to, m) {
						ok = true
					}
				}
				if !ok {
					t.Errorf("%s imports %s: %s", path, imported, rule.reason)
				}
			}
			break
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
