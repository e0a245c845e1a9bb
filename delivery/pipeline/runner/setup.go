package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// toolchain is how a language's version is asked of an image, and what an image with it is called.
type toolchain struct {
	name     string
	commands []string // of sh; the first that answers counts
	version  *regexp.Regexp
	image    string
}

var toolchains = map[string]toolchain{
	"go":     {"Go", []string{"go version"}, regexp.MustCompile(`go(\d[\w.]*)`), "golang:%s"},
	"node":   {"Node.js", []string{"node --version"}, regexp.MustCompile(`v(\d[\w.]*)`), "node:%s"},
	"python": {"Python", []string{"python --version", "python3 --version"}, regexp.MustCompile(`Python (\d[\w.]*)`), "python:%s"},
	"java":   {"Java", []string{"java -version"}, regexp.MustCompile(`version "(?:1\.)?(\d[\w.]*)`), "eclipse-temurin:%s"},
}

// setup checks that the image has a toolchain in the version that is asked for.
func (s *stepRun) setup(ctx context.Context, language string, with map[string]string, b *workflow.Builtin) error {
	t := toolchains[language]
	wanted, err := s.wantedVersion(ctx, with[b.Inputs[0].Name], with[b.Inputs[1].Name])
	if err != nil {
		return err
	}
	has := ""
	env := s.processEnv(nil)
	for _, command := range t.commands {
		var out strings.Builder
		code, err := s.job.c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", command + " 2>&1"}, Env: env}, nil, &out, io.Discard)
		if err != nil {
			return err
		}
		if m := t.version.FindStringSubmatch(out.String()); code == 0 && m != nil {
			has = m[1]
			break
		}
	}
	hint := fmt.Sprintf("name an image in the job's container, such as "+t.image, imageTag(wanted))
	if has == "" {
		return maru.WithHint(maru.Errorf(maru.Invalid, "the job's image has no %s, and %s installs nothing", t.name, b.Name), hint)
	}
	if !satisfies(has, wanted) {
		return maru.WithHint(maru.Errorf(maru.Invalid, "the job's image has %s %s, and the workflow asks for %s", t.name, has, wanted), hint)
	}
	s.say(t.name + " " + has)
	for _, name := range b.Outputs {
		switch name {
		case "cache-hit":
			s.outputs.Set(name, "false")
		case "distribution":
			s.outputs.Set(name, with["distribution"])
		case "python-path", "path":
		default:
			s.outputs.Set(name, has)
		}
	}
	return nil
}

// toolchainImage gives the image for the first setup action that the job's steps use, "" without one.
func (j *job) toolchainImage(env *expr.Env) string {
	for _, s := range j.def.Steps {
		b, ok := workflow.FindBuiltin(s.Uses)
		if !ok {
			continue
		}
		language, ok := strings.CutPrefix(b.Name, "actions/setup-")
		image := j.Toolchains[language]
		if !ok || image == "" {
			continue
		}
		wanted := ""
		for _, v := range s.With {
			if strings.EqualFold(v.Name, b.Inputs[0].Name) {
				wanted, _ = v.Value.Eval(env) // what is not known yet is any
			}
		}
		version := imageTag(wanted)
		switch {
		case version != "latest":
		case language == "node" && strings.Contains(wanted, "lts"):
			version = "lts"
		case language == "java":
			version = "21"
		}
		return fmt.Sprintf(image, version)
	}
	return ""
}

// imageTag is the beginning of a version that an image would be called by.
func imageTag(wanted string) string {
	if m := regexp.MustCompile(`\d+(\.\d+)*`).FindString(wanted); m != "" {
		return m
	}
	return "latest"
}

// wantedVersion gives the version that is asked for, of the input or of a file.
func (s *stepRun) wantedVersion(ctx context.Context, version, file string) (string, error) {
	if version != "" || file == "" {
		return strings.Join(nonEmpty(version), " || "), nil
	}
	var out strings.Builder
	code, err := s.job.c.Exec(ctx, maru.ExecCommand{Args: []string{"sh", "-c", `head -c 65536 -- "$1"`, "sh", s.job.folder(file)}, Dir: "/"}, nil, &out, io.Discard)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return "", maru.WithHint(maru.Errorf(maru.NotFound, "the file %s is not in the workspace", file), "check out the source tree before this step")
	}
	found := versionIn(path.Base(file), out.String())
	if found == "" {
		return "", maru.Errorf(maru.Invalid, "the file %s says no version", file)
	}
	return found, nil
}

var (
	goDirective = regexp.MustCompile(`(?m)^go\s+(\d+(?:\.\d+)*)`)
	anyVersion  = regexp.MustCompile(`v?(\d[\w.]*|lts/[\w*-]+)`)
	pyRequires  = regexp.MustCompile(`(?m)^\s*requires-python\s*=\s*["']([^"']+)`)
	toolLine    = regexp.MustCompile(`(?m)^(?:golang|nodejs|python|java)\s+(?:\w+-)?(\d[\w.]*)`)
)

// versionIn takes the version out of a file that says it.
func versionIn(name, text string) string {
	first := func(re *regexp.Regexp, text string) string {
		if m := re.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	switch name {
	case "go.mod", "go.work":
		if v := first(goDirective, text); v != "" {
			return ">=" + v
		}
		return ""
	case "package.json":
		var p struct {
			Engines struct{ Node string }
			Volta   struct{ Node string }
		}
		if json.Unmarshal([]byte(text), &p) != nil {
			return ""
		}
		if p.Volta.Node != "" {
			return p.Volta.Node
		}
		return p.Engines.Node
	case "pyproject.toml":
		return strings.ReplaceAll(first(pyRequires, text), ",", " ")
	case ".tool-versions":
		return first(toolLine, text)
	}
	return first(anyVersion, text)
}

// satisfies tells whether a version is one of those asked for: 1.26, 1.26.x, >=1.25 <2, ^20, ~1.2.3,
// several of these with ||. What only a list of releases could tell (stable, latest, lts/*) any does.
func satisfies(has, wanted string) bool {
	for alternative := range strings.SplitSeq(wanted, "||") {
		fits := true
		words := strings.Fields(regexp.MustCompile(`([<>=~^]+)\s+`).ReplaceAllString(alternative, "$1"))
		for i, word := range words {
			if i+2 < len(words) && words[i+1] == "-" { // a range
				fits = fits && compareVersions(has, word) >= 0
				words[i+1], words[i+2] = "*", "<="+words[i+2]
				continue
			}
			fits = fits && fitsOne(has, word)
		}
		if fits {
			return true
		}
	}
	return false
}

func fitsOne(has, wanted string) bool {
	operator := wanted[:len(wanted)-len(strings.TrimLeft(wanted, "<>=~^!"))]
	version := strings.TrimPrefix(wanted[len(operator):], "v")
	if version == "" || version[0] < '0' || version[0] > '9' {
		return true // *, stable, latest, lts/…
	}
	parts := strings.FieldsFunc(version, func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	for i, p := range parts {
		if p == "x" || p == "X" || p == "*" {
			parts = parts[:i]
			break
		}
	}
	c := compareVersions(has, strings.Join(parts, "."))
	same := func(n int) bool { return sameParts(has, parts, min(n, len(parts))) }
	switch operator {
	case ">=":
		return c >= 0
	case ">":
		return c > 0 && !same(len(parts))
	case "<=":
		return c <= 0 || same(len(parts))
	case "<":
		return c < 0
	case "!=":
		return !same(len(parts))
	case "^":
		n := 1
		for n < len(parts) && parts[n-1] == "0" {
			n++
		}
		return c >= 0 && same(n)
	case "~", "~=", "~>":
		return c >= 0 && same(max(1, min(2, len(parts))))
	}
	return same(len(parts))
}

// sameParts tells whether the first n parts of a version are these.
func sameParts(has string, parts []string, n int) bool {
	own := strings.Split(has, ".")
	for i := range n {
		if i >= len(own) || number(own[i]) != number(parts[i]) {
			return false
		}
	}
	return true
}

func compareVersions(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		var p, q int
		if i < len(x) {
			p = number(x[i])
		}
		if i < len(y) {
			q = number(y[i])
		}
		if p != q {
			return p - q
		}
	}
	return 0
}

// number is the digits that a part of a version begins with.
func number(part string) int {
	n := 0
	for _, r := range part {
		if r < '0' || r > '9' || n > 1e8 {
			break
		}
		n = 10*n + int(r-'0')
	}
	return n
}
