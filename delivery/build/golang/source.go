package golang

import (
	"cmp"
	"errors"
	"go/version"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// source is a Go program's source as found.
type source struct {
	folder  string // on the host
	pkg     string // as asked for, such as "./cmd/web"
	dir     string // of the module, relative to the folder: where go build runs
	arg     string // what it builds: the package, relative to dir
	version string // of Go, such as 1.26.8
	modules string // digest of what names the modules that it needs; "": it needs none fetched
	digest  string // of all that go build would look at
}

// inspect reads the request's source without running anything.
func inspect(req build.Request) (source, error) {
	s := source{folder: req.Build.Context}
	root, err := os.OpenRoot(s.folder)
	if err != nil {
		return s, maru.Errorf(maru.Invalid, "the build context is not a folder that can be read: %w", err)
	}
	defer root.Close()
	if s.pkg, err = packageArgument(req.Build.Go.Package); err != nil {
		return s, err
	}
	files := root.FS()
	if err := findProgram(files, s.pkg); err != nil {
		return s, err
	}
	local, err := findModules(files, s.pkg)
	if err != nil {
		return s, err
	}
	s.dir, s.arg = local.main.dir, "."
	if rel := strings.TrimPrefix(strings.TrimPrefix(s.pkg, "./"), s.dir+"/"); rel != s.dir && s.pkg != "." {
		s.arg = "./" + rel
	}
	if err := s.chooseVersion(local, req.Build.Go.Go); err != nil {
		return s, err
	}
	if s.modules, err = local.digest(s.version); err != nil {
		return s, err
	}
	s.digest, err = digestInputs(s.pkg, local)
	return s, err
}

func packageArgument(pkg string) (string, error) {
	clean := path.Clean(filepath.ToSlash(cmp.Or(pkg, ".")))
	if !filepath.IsLocal(clean) {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "Go package %q is not within the build context", pkg),
			"give its folder, relative to the context, such as ./cmd/web")
	}
	if clean == "." {
		return clean, nil
	}
	return "./" + clean, nil
}

func findProgram(files fs.FS, pkg string) error {
	entries, err := fs.ReadDir(files, strings.TrimPrefix(pkg, "./"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return maru.Errorf(maru.Invalid, "Go package %s: %w", pkg, err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			return nil
		}
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "there are no Go files in %s of the build context", pkg),
		"add a Dockerfile, or say which folder holds the program: x-maru: {go: {package: ./cmd/NAME}}")
}

// chooseVersion takes the pinned Go, a later one if the source wants that, or the one asked for.
func (s *source) chooseVersion(local *modules, asked string) error {
	s.version = Version
	for _, m := range local.all {
		s.atLeast(m.file.Go, m.file.Toolchain)
	}
	if local.work != nil {
		s.atLeast(local.work.Go, local.work.Toolchain)
	}
	if asked != "" {
		s.version = strings.TrimPrefix(asked, "go")
	}
	if !version.IsValid("go"+s.version) || version.Lang("go"+s.version) == "go"+s.version {
		return maru.WithHint(maru.Errorf(maru.Invalid, "Go version %q is not a release", s.version), "name one in full, such as "+Version)
	}
	return nil
}

// atLeast raises the version to what a go or toolchain line wants. "go 1.26" is satisfied by any
// patch of it, so it is no wish for the first.
func (s *source) atLeast(g *modfile.Go, t *modfile.Toolchain) {
	wanted := ""
	if t != nil && strings.HasPrefix(t.Name, "go1") {
		wanted = strings.TrimPrefix(t.Name, "go")
	}
	if g != nil && version.Compare("go"+g.Version, "go"+wanted) > 0 {
		wanted = g.Version
	}
	if version.Compare("go"+wanted, "go"+s.version) <= 0 {
		return
	}
	if version.Lang("go"+wanted) == "go"+wanted {
		wanted += ".0"
	}
	s.version = wanted
}
