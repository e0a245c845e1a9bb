package compose

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// bind has compose-go read the files into l.proj. What it is given has passed the checks before, so
// that its own errors, which know no place, are few.
func (l *load) bind(ctx context.Context) {
	details := types.ConfigDetails{WorkingDir: l.project, Environment: maps.Clone(l.env)}
	for _, file := range l.files {
		name := file
		if file == stdinName {
			name = filepath.Join(l.project, stdinName)
		}
		content := l.withoutVersion(file, l.contents[file])
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: name, Content: content})
	}
	project, err := l.readProject(ctx, details)
	if err != nil {
		l.fail(l.errorPlace(err), "", maru.Invalid, "compose: "+cleaned(err), "")
		return
	}
	l.proj = project
	if !l.checkFilesOfServices() {
		return
	}
	if project, err = resolved(project); err != nil {
		l.fail(l.envPosition(sortedKeys(l.read), err), "", maru.Invalid, envMessage(err), "write NAME=VALUE lines")
		return
	}
	l.proj = project
}

// readProject turns panics of compose-go, which checks few types, into errors.
func (l *load) readProject(ctx context.Context, details types.ConfigDetails) (project *types.Project, err error) {
	defer guard(&err)
	return loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.SetProjectName(strings.ReplaceAll(l.app.Name, ".", "_"), true)
		o.Profiles = l.profiles
		o.SkipConsistencyCheck = true // done here, with places
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.Interpolate.Substitute = func(text string, lookup template.Mapping) (string, error) {
			value, faults := substitute(text, lookup)
			for _, f := range faults {
				if !f.unset {
					return "", fmt.Errorf("%s", f.message)
				}
			}
			return value, nil
		}
	})
}

// rawFormat makes the format "raw" of env files known to compose-go: values as they stand.
var rawFormat = sync.OnceFunc(func() {
	dotenv.RegisterFormat("raw", func(r io.Reader, file string, vars map[string]string, _ func(string) (string, bool)) error {
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, maxEnvFile+1)
		for line := 1; scanner.Scan(); line++ {
			text := strings.TrimSuffix(scanner.Text(), "\r")
			if trimmed := strings.TrimSpace(text); trimmed == "" || strings.HasPrefix(trimmed, "#") {
				continue
			}
			name, value, ok := strings.Cut(text, "=")
			if !ok || strings.TrimSpace(name) == "" {
				return fmt.Errorf("failed to read %s: line %d: %q is not NAME=VALUE", file, line, text)
			}
			vars[strings.TrimSpace(name)] = value
		}
		return scanner.Err()
	})
})

// resolved reads the files of env_file and label_file, which were found readable.
func resolved(project *types.Project) (made *types.Project, err error) {
	defer guard(&err)
	rawFormat()
	if made, err = project.WithServicesEnvironmentResolved(true); err != nil {
		return nil, err
	}
	return made.WithServicesLabelsResolved(true)
}

func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the files can't be read: %v", p)
	}
}

// hidden stands in place of the key "version": an extension, of the same length.
const hidden = "x-verso"

// withoutVersion hides the top-level version, of which compose-go would speak on standard error. All
// places stay as they are.
func (l *load) withoutVersion(file string, data []byte) []byte {
	lines := bytes.SplitAfter(data, []byte("\n"))
	for _, at := range l.versions[file] {
		if line := lines[at.line-1]; bytes.Contains(line, []byte("version")) {
			lines[at.line-1] = bytes.Replace(line, []byte("version"), []byte(hidden), 1)
		}
	}
	return bytes.Join(lines, nil)
}

var pathInError = regexp.MustCompile(`\b(services|volumes|networks|configs|secrets)[.\[]([a-zA-Z0-9._\[\]-]+)`)

// errorPlace finds the place that an error of compose-go's speaks of, as near as it can.
func (l *load) errorPlace(err error) position {
	for _, found := range pathInError.FindAllString(err.Error(), -1) {
		path := strings.FieldsFunc(found, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
		if at := l.src.place(path...); at != (position{}) {
			return at
		}
	}
	for _, name := range l.src.get("services").keys() {
		if strings.Contains(err.Error(), `"`+name+`"`) {
			return l.place("services", name)
		}
	}
	return l.place()
}

// cleaned gives the message without the words that mean something to compose-go's own program only.
func cleaned(err error) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(err.Error()), " "), ": invalid compose project")
}

// checkFilesOfServices finds the files of env_file and label_file, and reports those that are not there.
func (l *load) checkFilesOfServices() bool {
	count := len(l.errors)
	for _, name := range sortedKeys(l.proj.Services) {
		s := l.proj.Services[name]
		for i, file := range s.EnvFiles {
			if !bool(file.Required) && !isFile(file.Path) && !isDir(file.Path) && l.confined(file.Path) == nil {
				continue
			}
			l.checkFile(name, "env_file", i, file.Path)
			if !slices.Contains([]string{"", dotenv.DotEnv, "raw"}, file.Format) {
				at := []string{"services", name, "env_file", fmt.Sprint(i), "format"}
				l.fail(l.place(at...), l.pathOf(at), maru.Invalid, fmt.Sprintf("%q is not a format", file.Format), "write raw, or leave it out")
			}
		}
		for i, file := range s.LabelFiles {
			l.checkFile(name, "label_file", i, file)
		}
	}
	return len(l.errors) == count
}

func (l *load) checkFile(service, key string, i int, file string) {
	if _, err := l.readFile(file, maxEnvFile); err != nil {
		hint := maru.HintOf(err)
		if key == "env_file" && hint != "" {
			hint = "write the file, or say required: false"
		}
		at := []string{"services", service, key, fmt.Sprint(i)}
		l.fail(l.place(at...), "services."+service+"."+key, maru.Invalid, err.Error(), hint)
	}
}
