package golang

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/marucloud/maru"
)

// module is a Go module in the build context.
type module struct {
	dir  string // relative to the context, with slashes; "." is the context itself
	path string // as imports begin
	file *modfile.File
}

// modules are those of the build context that a program is made of.
type modules struct {
	files   fs.FS  // the context; nothing outside of it is read, whatever links say
	main    module // the program's own
	all     []module
	work    *modfile.WorkFile
	workDir string
	vendor  string // folder of vendored packages, relative to the context; "" without
}

// findModules reads the go.mod files that matter to a package: its own, those of its workspace, and
// those that replace others by folders.
func findModules(files fs.FS, pkg string) (*modules, error) {
	m := &modules{files: files}
	dir, ok := m.above(strings.TrimPrefix(pkg, "./"), "go.mod")
	if !ok {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "the build context has no go.mod"),
			"build the folder that has the go.mod, and name the program within it by x-maru: {go: {package: ./FOLDER}}; or run `go mod init`")
	}
	if err := m.add(dir); err != nil {
		return nil, err
	}
	m.main = m.all[0]
	if err := m.workspace(); err != nil {
		return nil, err
	}
	for i := 0; i < len(m.all); i++ { // those that are replaced may replace others only in a workspace: it does no harm
		for _, r := range m.all[i].file.Replace {
			if err := m.replaced(m.all[i].dir, r); err != nil {
				return nil, err
			}
		}
	}
	vendorRoot := m.main.dir
	if m.work != nil {
		vendorRoot = m.workDir
	}
	if _, err := fs.Stat(m.files, path.Join(vendorRoot, "vendor", "modules.txt")); err == nil {
		m.vendor = path.Join(vendorRoot, "vendor")
	}
	return m, nil
}

// above gives the folder that has the file: dir, or the nearest one above it in the context.
func (m *modules) above(dir, file string) (string, bool) {
	for {
		if _, err := fs.Stat(m.files, path.Join(dir, file)); err == nil {
			return dir, true
		}
		if dir == "." {
			return "", false
		}
		dir = path.Dir(dir)
	}
}

func (m *modules) add(dir string) error {
	for _, known := range m.all {
		if known.dir == dir {
			return nil
		}
	}
	name := path.Join(dir, "go.mod")
	data, err := fs.ReadFile(m.files, name)
	if err != nil {
		return maru.Errorf(maru.Invalid, "%s: %w", name, err)
	}
	file, err := modfile.Parse(name, data, nil)
	if err != nil {
		return maru.Errorf(maru.Invalid, "%w", err)
	}
	if file.Module == nil {
		return maru.Errorf(maru.Invalid, "%s does not name its module", name)
	}
	m.all = append(m.all, module{dir: dir, path: file.Module.Mod.Path, file: file})
	return nil
}

func (m *modules) workspace() error {
	dir, ok := m.above(m.main.dir, "go.work")
	if !ok {
		return nil
	}
	name := path.Join(dir, "go.work")
	data, err := fs.ReadFile(m.files, name)
	if err != nil {
		return maru.Errorf(maru.Invalid, "%s: %w", name, err)
	}
	if m.work, err = modfile.ParseWork(name, data, nil); err != nil {
		return maru.Errorf(maru.Invalid, "%w", err)
	}
	m.workDir = dir
	for _, use := range m.work.Use {
		if used := path.Join(dir, filepath.ToSlash(use.Path)); filepath.IsLocal(used) || used == "." {
			if err := m.add(used); err != nil {
				return err
			}
		}
	}
	for _, r := range m.work.Replace {
		if err := m.replaced(dir, r); err != nil {
			return err
		}
	}
	return nil
}

// replaced takes the module that stands for another. One outside of the context go build itself will
// complain of.
func (m *modules) replaced(dir string, r *modfile.Replace) error {
	if r.New.Version != "" || path.IsAbs(r.New.Path) {
		return nil
	}
	at := path.Join(dir, filepath.ToSlash(r.New.Path))
	if at != "." && !filepath.IsLocal(at) {
		return nil
	}
	if _, err := fs.Stat(m.files, path.Join(at, "go.mod")); err != nil {
		return nil
	}
	if err := m.add(at); err != nil {
		return err
	}
	for i := range m.all {
		if m.all[i].dir == at {
			m.all[i].path = r.Old.Path // what imports of it begin with
		}
	}
	return nil
}

// find gives the folder of an imported package in the context.
func (m *modules) find(imported string) (dir string, ok bool) {
	best := -1
	for i, mod := range m.all {
		if imported == mod.path || strings.HasPrefix(imported, mod.path+"/") {
			if best < 0 || len(mod.path) > len(m.all[best].path) {
				best = i
			}
		}
	}
	if best >= 0 {
		dir := path.Join(m.all[best].dir, strings.TrimPrefix(imported, m.all[best].path))
		return dir, fs.ValidPath(dir)
	}
	if m.vendor != "" {
		dir := path.Join(m.vendor, imported)
		if _, err := fs.Stat(m.files, dir); err == nil {
			return dir, true
		}
	}
	return "", false
}

// files are those that name modules and their hashes.
func (m *modules) names() []string {
	var names []string
	for _, mod := range m.all {
		names = append(names, path.Join(mod.dir, "go.mod"), path.Join(mod.dir, "go.sum"))
	}
	if m.work != nil {
		names = append(names, path.Join(m.workDir, "go.work"), path.Join(m.workDir, "go.work.sum"))
	}
	if m.vendor != "" {
		names = append(names, path.Join(m.vendor, "modules.txt"))
	}
	return names
}

// digest names what has to be fetched; "" is nothing.
func (m *modules) digest(version string) (string, error) {
	needed := false
	for _, mod := range m.all {
		needed = needed || len(mod.file.Require) > 0
	}
	if !needed || m.vendor != "" {
		return "", nil
	}
	h := sha256.New()
	fmt.Fprintln(h, version)
	for _, name := range m.names() {
		data, err := fs.ReadFile(m.files, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("read build context: %w", err)
		}
		fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(data))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
