// Package crashtest finds the crash points of the module by reading its source, so that a test can
// crash at each of them without a list to keep.
package crashtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const importPath = "github.com/marucloud/maru/internal/crash"

var nameForm = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)

// Points gives the names of the points in the non-test files below folder (relative to the module's
// root; "" for all), sorted. It fails the test for a name that is no literal, has the wrong form or
// stands at two places.
func Points(t testing.TB, folder string) []string {
	t.Helper()
	root := moduleRoot(t)
	at := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || nested(path)):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		return collect(t, path, at)
	})
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(at))
	for name := range at {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func collect(t testing.TB, path string, at map[string]string) error {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(source), importPath) {
		return nil
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !isPoint(call.Fun) || len(call.Args) != 1 {
			return true
		}
		place := files.Position(call.Pos()).String()
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			t.Errorf("%s: the name of a crash point is no string literal", place)
			return true
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil || !nameForm.MatchString(name) {
			t.Errorf("%s: crash point %s is not named like package.action.before", place, literal.Value)
		}
		if other, twice := at[name]; twice {
			t.Errorf("%s: crash point %q stands at %s too", place, name, other)
		}
		at[name] = place
		return true
	})
	return nil
}

func isPoint(fun ast.Expr) bool {
	selector, ok := fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != "Point" {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "crash"
}

// nested tells whether the folder is another module's.
func nested(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !nested(folder) {
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Fatal("no go.mod above the working folder")
		}
		folder = parent
	}
	return folder
}
