// Package detect makes a workflow for a source tree that has none: it finds the languages that are
// there, and builds and tests each as its people do.
package detect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// Path is what the workflow is called that is in no file.
const Path = "default"

// found is a project of a language, in a folder.
type found struct {
	dir   string // "." for the root
	job   string
	image string
	cache string // paths, one a line; "" for none
	locks string // patterns of files that the cache depends on
	run   []string
	tests bool // there are some
}

// Projects are what a source tree has of the languages.
type Projects []found

// language looks at a folder: names are those of its files.
type language func(tree fs.FS, dir string, names []string) *found

var languages = []language{goModule, node, python, java, rust}

// skipped are folders that nobody's projects are in.
var skipped = []string{"node_modules", "vendor", "testdata", "dist", "build", "target", "venv", "third_party"}

// Bounds of the search.
const (
	maxDepth    = 3
	maxProjects = 20
	maxFolders  = 2000
)

// Workflow makes the workflow, nil without a project. The text is what a file with it would have.
func (all Projects) Workflow() (*workflow.Workflow, string, error) {
	if len(all) == 0 {
		return nil, "", nil
	}
	text := write(all)
	w, issues := workflow.Parse(Path, []byte(text))
	return w, text, issues.Err()
}

// Tested gives those that have tests, and the names of the others.
func (all Projects) Tested() (tested Projects, others []string) {
	for _, p := range all {
		if p.tests {
			tested = append(tested, p)
		} else {
			others = append(others, p.name())
		}
	}
	return tested, others
}

// Names names them for people.
func (all Projects) Names() []string {
	var names []string
	for _, p := range all {
		names = append(names, p.name())
	}
	return names
}

func (p found) name() string {
	name := map[string]string{"go": "Go", "node": "Node.js", "python": "Python", "java": "Java", "rust": "Rust"}[p.job]
	if p.dir == "." {
		return name
	}
	return name + " in " + p.dir
}

// Search finds projects. One below another of its language is part of that, and not one of its own.
func Search(tree fs.FS) (Projects, error) {
	var all Projects
	folders := 0
	err := fs.WalkDir(tree, ".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil {
			if dir == "." {
				return err
			}
			return fs.SkipDir
		}
		if !d.IsDir() {
			return nil
		}
		folders++
		base := path.Base(dir)
		if dir != "." && (strings.HasPrefix(base, ".") || slices.Contains(skipped, base) || strings.Count(dir, "/") >= maxDepth) || folders > maxFolders {
			return fs.SkipDir
		}
		entries, err := fs.ReadDir(tree, dir)
		if err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			if e.Type().IsRegular() {
				names = append(names, e.Name())
			}
		}
		for i, look := range languages {
			if within(all, dir, i) || len(all) >= maxProjects {
				continue
			}
			if p := look(tree, dir, names); p != nil {
				p.dir, p.job = dir, jobNames[i]
				all = append(all, *p)
			}
		}
		return nil
	})
	return all, err
}

var jobNames = []string{"go", "node", "python", "java", "rust"}

func within(all Projects, dir string, language int) bool {
	return language != 0 && slices.ContainsFunc(all, func(p found) bool { // Go's modules don't contain those below
		return p.job == jobNames[language] && (p.dir == "." || strings.HasPrefix(dir, p.dir+"/"))
	})
}

// write gives the workflow's text.
func write(projects Projects) string {
	var out strings.Builder
	out.WriteString("name: default\non: [push, pull_request, workflow_dispatch]\njobs:\n")
	used := map[string]int{}
	for _, p := range projects {
		id := p.job
		if p.dir != "." {
			id += "-" + strings.Trim(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(p.dir, "-"), "-")
		}
		if used[id]++; used[id] > 1 {
			id = fmt.Sprintf("%s-%d", id, used[id])
		}
		fmt.Fprintf(&out, "  %s:\n    runs-on: ubuntu-latest\n    container: %s\n", id, quote(p.image))
		if p.dir != "." {
			fmt.Fprintf(&out, "    defaults: {run: {working-directory: %s}}\n", quote(p.dir))
		}
		out.WriteString("    steps:\n      - uses: actions/checkout@v4\n")
		if p.cache != "" {
			fmt.Fprintf(&out, "      - uses: actions/cache@v4\n        with:\n          path: %s\n          key: %s-${{ hashFiles(%s) }}\n          restore-keys: %s-\n",
				quote(p.cache), p.job, p.locks, p.job)
		}
		for _, command := range p.run {
			fmt.Fprintf(&out, "      - run: %s\n", quote(command))
		}
	}
	return out.String()
}

func quote(s string) string {
	text, _ := json.Marshal(s) // a string in JSON is one in YAML, too
	return string(text)
}

func read(tree fs.FS, dir, name string) string {
	f, err := tree.Open(path.Join(dir, name))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	var out strings.Builder
	lines := bufio.NewScanner(f)
	for n := 0; lines.Scan() && n < 5000; n++ {
		out.WriteString(lines.Text() + "\n")
	}
	return out.String()
}

// maxFiles bounds how many files of a project are looked at.
const maxFiles = 20_000

// anyFile tells whether a folder has a file, also below, that is one of those looked for. Path is relative to the
// folder.
func anyFile(tree fs.FS, dir string, is func(file string) bool) bool {
	files, there := 0, false
	_ = fs.WalkDir(tree, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != dir && (strings.HasPrefix(base, ".") || slices.Contains(skipped, base)) {
				return fs.SkipDir
			}
			return nil
		}
		files++
		if there = d.Type().IsRegular() && is(strings.TrimPrefix(name, dir+"/")); there || files > maxFiles {
			return fs.SkipAll
		}
		return nil
	})
	return there
}

// version takes a version out of a text, "" if there is none that could be a tag.
func version(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func tag(image, version, without string) string {
	if version == "" {
		version = without
	}
	return image + ":" + version
}
