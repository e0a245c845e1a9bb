package golang

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// inputs finds what go build would look at: the package, what it imports from the context, and so on.
// So in a repository of many programs a change is a change of those that it reaches. Build constraints
// are not looked at: rather a file too many than one too few.
type inputs struct {
	local *modules
	dirs  map[string]bool // packages, true once visited
	trees map[string]bool // folders that count with all that is in them: something of them is embedded
	files map[string]bool
}

// digestInputs digests the names and contents of a package's inputs: times, modes and owners don't
// count.
func digestInputs(pkg string, local *modules) (string, error) {
	in := &inputs{local: local, dirs: map[string]bool{}, trees: map[string]bool{}, files: map[string]bool{}}
	for _, name := range local.names() {
		in.files[name] = true
	}
	queue := []string{strings.TrimPrefix(pkg, "./")}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		if in.dirs[dir] {
			continue
		}
		in.dirs[dir] = true
		found, err := in.visit(dir)
		if err != nil {
			return "", changed(err)
		}
		queue = append(queue, found...)
	}
	for dir := range in.trees {
		if err := in.tree(dir); err != nil {
			return "", changed(err)
		}
	}
	return in.digest()
}

// changed tells what a failure to read the context means.
func changed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return maru.Errorf(maru.Conflict, "the build context changed while it was read: %w", err)
	case strings.Contains(err.Error(), "path escapes"): // os.Root has no error value for it
		return maru.WithHint(maru.Errorf(maru.Invalid, "a link in the build context leads out of it: %w", err), "put the file itself in its place")
	}
	return fmt.Errorf("read build context: %w", err)
}

// compiled are the endings of files that the Go command compiles or includes, or would complain of.
var compiled = []string{".go", ".s", ".S", ".sx", ".h", ".hh", ".hpp", ".hxx", ".c", ".cc", ".cpp", ".cxx", ".m", ".f", ".F", ".for", ".f90", ".swig", ".swigcxx", ".syso"}

// visit takes a package's files and gives the packages of the context that they import.
func (in *inputs) visit(dir string) ([]string, error) {
	entries, err := fs.ReadDir(in.local.files, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // go build says it better
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || !slices.Contains(compiled, path.Ext(name)) && name != "default.pgo" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		full := path.Join(dir, name)
		in.files[full] = true
		if path.Ext(name) != ".go" {
			continue
		}
		imports, err := in.imports(full)
		if err != nil {
			return nil, err
		}
		for _, imported := range imports {
			if at, ok := in.local.find(imported); ok {
				found = append(found, at)
			}
		}
	}
	return found, nil
}

func (in *inputs) imports(name string) ([]string, error) {
	data, err := fs.ReadFile(in.local.files, name)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte("//go:embed")) {
		in.trees[path.Dir(name)] = true
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ImportsOnly)
	if parsed == nil || err != nil {
		return nil, nil // go build says it better
	}
	var all []string
	for _, spec := range parsed.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			all = append(all, imported)
		}
	}
	return all, nil
}

// tree takes all files of a folder.
func (in *inputs) tree(dir string) error {
	return fs.WalkDir(in.local.files, dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.IsDir():
			in.files[name] = true
		}
		return nil
	})
}

func (in *inputs) digest() (string, error) {
	names := make([]string, 0, len(in.files))
	for name := range in.files {
		names = append(names, name)
	}
	slices.Sort(names)
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for _, name := range names {
		if err := hashFile(h, in.local.files, name, buf); err != nil {
			return "", changed(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashFile adds a file. What is not there counts as that: go.sum need not be.
func hashFile(h io.Writer, files fs.FS, name string, buf []byte) error {
	info, err := fs.Lstat(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%q %s ", name, info.Mode().Type())
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := fs.ReadLink(files, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q ", target)
		if info, err = fs.Stat(files, name); err != nil {
			return nil // it leads nowhere, or out of the context
		}
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	one := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{one}, struct{ io.Reader }{f}, buf); err != nil {
		return err
	}
	fmt.Fprintf(h, "%x\n", one.Sum(nil))
	return nil
}
