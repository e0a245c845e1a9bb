package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/marucloud/maru"
)

// goBuild makes the build one of a Go program: there is no Dockerfile. The context becomes the folder
// that has all the module needs, which may be above the one that was named.
func (s *service) goBuild(b *maru.Build) {
	module := moduleRoot(b.Context)
	if module == "" {
		s.fail(maru.Invalid, fmt.Sprintf("there is neither a Dockerfile nor a Go module in %s", s.l.shown(b.Context)),
			"write a Dockerfile, or go.mod for a program in Go", s.contextKey()...)
		return
	}
	pkg := filepath.Join(b.Context, filepath.FromSlash(s.keys.goPackage))
	if !isDir(pkg) || !within(module, pkg) {
		s.fail(maru.Invalid, fmt.Sprintf("there is no package %s in %s", s.keys.goPackage, s.l.shown(b.Context)),
			"write the folder of the main package, such as ./cmd/web", extensionKey, "go", "package")
		return
	}
	root := sourceRoot(module)
	for _, path := range []string{root, pkg, filepath.Join(module, "go.mod")} {
		if err := s.l.confined(path); err != nil {
			s.fail(maru.Invalid, err.Error(), maru.HintOf(err), s.contextKey()...)
			return
		}
	}
	if !hasGoFiles(pkg) {
		s.fail(maru.Invalid, fmt.Sprintf("there is neither a Dockerfile nor a Go program in %s", s.l.shown(pkg)),
			"write a Dockerfile, or name the folder of the main package: x-maru: {go: {package: ./cmd/web}}", s.contextKey()...)
		return
	}
	rel, err := filepath.Rel(root, pkg)
	if err != nil {
		s.fail(maru.Invalid, err.Error(), "", s.contextKey()...)
		return
	}
	b.Context, b.Dockerfile = root, ""
	b.Go = &maru.GoBuild{Package: ".", Go: s.keys.goVersion}
	if rel != "." {
		b.Go.Package = "./" + filepath.ToSlash(rel)
	}
}

func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func hasGoFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			return true
		}
	}
	return false
}

// moduleRoot gives the folder with go.mod, the one given or above it in the same repository; "" without.
func moduleRoot(dir string) string {
	for {
		if isFile(filepath.Join(dir, "go.mod")) {
			return dir
		}
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil || dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

// sourceRoot gives the folder that has the module, the workspace it is in, and the modules on disk that
// it replaces others by.
func sourceRoot(module string) string {
	root := module
	if work := workspaceRoot(module); work != "" {
		root = work
	}
	data, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return root
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return root // go build says it better
	}
	for _, r := range mod.Replace {
		if r.New.Version == "" {
			for at := absolute(module, filepath.FromSlash(r.New.Path)); !within(root, at); {
				root = filepath.Dir(root)
			}
		}
	}
	return root
}

// readRegular reads a file that is one: no device that has no end.
func readRegular(file string) ([]byte, error) {
	if !isFile(file) {
		return nil, os.ErrNotExist
	}
	return os.ReadFile(file)
}

// workspaceRoot gives the folder with a go.work that uses the module, in the same repository; "" without.
func workspaceRoot(module string) string {
	for dir := module; ; dir = filepath.Dir(dir) {
		if data, err := readRegular(filepath.Join(dir, "go.work")); err == nil {
			work, err := modfile.ParseWork("go.work", data, nil)
			if err != nil {
				return ""
			}
			for _, use := range work.Use {
				if filepath.Clean(absolute(dir, filepath.FromSlash(use.Path))) == module {
					return dir
				}
			}
			return ""
		}
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil || dir == filepath.Dir(dir) {
			return ""
		}
	}
}
