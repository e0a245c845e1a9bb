// Package examples_test tests the examples, which are modules of their own, as a user's programs are.
package examples_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestExamples(t *testing.T) {
	modules, err := filepath.Glob("*/go.mod")
	if err != nil || len(modules) < 5 {
		t.Fatalf("found %v, %v", modules, err)
	}
	for _, module := range modules {
		dir := filepath.Dir(module)
		t.Run(dir, func(t *testing.T) {
			// A cached result is not to outlive the files that other programs read.
			if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"vet", "./..."}, {"test", "-count=1", "./..."}} {
				cmd := exec.Command("go", args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-trimpath -buildvcs=false -mod=readonly")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
			out, err := exec.Command("gofmt", "-l", dir).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("not formatted: %s %v", out, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "compose.yaml")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDemoPatches: the changes that the demo pushes fit the shop, the second of them being taken back.
func TestDemoPatches(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("shop")); err != nil {
		t.Fatal(err)
	}
	patches, err := filepath.Abs("../scripts/demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"1-new-product.patch"}, {"2-broken-test.patch"}, {"-R", "2-broken-test.patch"}, {"3-fails-in-production.patch"}} {
		args[len(args)-1] = filepath.Join(patches, args[len(args)-1])
		cmd := exec.Command("git", append([]string{"apply"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git apply %s: %v\n%s", args, err, out)
		}
	}
	cmd := exec.Command("go", "vet", "./...")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}
