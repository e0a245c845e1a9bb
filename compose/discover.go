package compose

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

var (
	fileNames     = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
	overrideNames = []string{"compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"}
)

// stdinName is how the standard input is shown in issues, and its key among the contents.
const stdinName = "-"

// prepare finds the files and what variables are to see.
func (l *load) prepare(context.Context) {
	if l.o.Environment == "" {
		l.o.Environment = maru.DefaultEnvironment
	}
	dir, err := filepath.Abs(l.o.Dir)
	if err != nil {
		l.failErr(position{}, "", maru.Invalid, err)
		return
	}
	l.dir, l.project = dir, dir
	l.env = l.given()
	l.files = l.findFiles()
	if len(l.errors) > 0 {
		return
	}
	if l.files[0] != stdinName {
		l.project = filepath.Dir(l.files[0])
	}
	env, ok := l.overEnvFiles(l.given(), l.envFiles())
	if !ok {
		return
	}
	l.env = env
	if _, ok := l.env["MARU_ENVIRONMENT"]; !ok {
		l.env["MARU_ENVIRONMENT"] = l.o.Environment
	}
	l.profiles = l.o.Profiles
	if len(l.profiles) == 0 {
		for profile := range strings.SplitSeq(l.env["COMPOSE_PROFILES"], ",") {
			if profile = strings.TrimSpace(profile); profile != "" {
				l.profiles = append(l.profiles, profile)
			}
		}
	}
}

// given gives the variables that need no file.
func (l *load) given() map[string]string {
	env := map[string]string{}
	for name, value := range l.o.Values {
		env[name] = value
	}
	for name, value := range l.o.Env {
		env[name] = value
	}
	return env
}

// findFiles gives the compose files. COMPOSE_FILE may stand in the .env of the folder looked in.
func (l *load) findFiles() []string {
	names := l.o.Files
	if len(names) == 0 {
		env := l.env
		if dotEnv := filepath.Join(l.dir, ".env"); len(l.o.EnvFiles) == 0 && isFile(dotEnv) {
			env, _ = l.overEnvFiles(l.env, []string{dotEnv})
		}
		if list := env["COMPOSE_FILE"]; list != "" {
			separator := env["COMPOSE_PATH_SEPARATOR"]
			if separator == "" {
				separator = string(os.PathListSeparator)
			}
			names = strings.Split(list, separator)
		}
	}
	if len(names) == 0 {
		return l.lookUp()
	}
	var files []string
	for _, name := range names {
		file := absolute(l.dir, name)
		if name == stdinName {
			file = stdinName
			l.readStdin()
		} else if _, err := l.readFile(file, maxComposeFile); err != nil {
			l.failErr(position{}, "", maru.Invalid, err)
		}
		files = append(files, file)
	}
	return files
}

func (l *load) readStdin() {
	if l.o.Stdin == nil {
		l.fail(position{}, "", maru.Invalid, "there is no standard input to read the compose file from", "")
		return
	}
	data, err := io.ReadAll(io.LimitReader(l.o.Stdin, maxComposeFile+1))
	if err != nil {
		l.fail(position{}, "", maru.Invalid, fmt.Sprintf("standard input can't be read: %v", err), "")
	}
	if len(data) > maxComposeFile {
		l.fail(position{}, "", maru.Invalid, "the compose file on standard input is too large", "")
	}
	l.contents[stdinName] = data
}

// lookUp finds the default files in the folder or the nearest one above it.
func (l *load) lookUp() []string {
	for dir := l.dir; ; dir = filepath.Dir(dir) {
		var files []string
		for _, names := range [][]string{fileNames, overrideNames} {
			for _, name := range names {
				if file := filepath.Join(dir, name); isFile(file) {
					files = append(files, file)
					break
				}
			}
			if len(files) == 0 {
				break
			}
		}
		if len(files) > 0 {
			return files
		}
		if dir == l.o.Root {
			l.fail(position{}, "", maru.Invalid, "there is no compose file", "write a compose.yaml")
			return nil
		}
		if dir == filepath.Dir(dir) {
			l.fail(position{}, "", maru.Invalid, "there is no compose file in "+l.dir+" or above it",
				"write a compose.yaml, or name the file with -f FILE")
			return nil
		}
	}
}

func (l *load) envFiles() []string {
	if len(l.o.EnvFiles) > 0 {
		files := make([]string, len(l.o.EnvFiles))
		for i, file := range l.o.EnvFiles {
			files[i] = absolute(l.dir, file)
		}
		return files
	}
	if off, _ := strconv.ParseBool(l.o.Env["COMPOSE_DISABLE_ENV_FILE"]); off {
		return nil
	}
	if file := filepath.Join(l.project, ".env"); isFile(file) {
		return []string{file}
	}
	return nil
}

var envLine = regexp.MustCompile(`line (\d+): `)

// envPosition finds the place of an error in one of the env files.
func (l *load) envPosition(files []string, err error) position {
	at := position{}
	for _, file := range files {
		if strings.Contains(err.Error(), file) {
			at.file = l.shown(file)
		}
	}
	if found := envLine.FindStringSubmatch(err.Error()); found != nil {
		at.line, _ = strconv.Atoi(found[1])
	}
	return at
}

func envMessage(err error) string {
	message := err.Error()
	if i := strings.Index(message, ": "); i >= 0 && strings.HasPrefix(message, "failed to read ") {
		message = message[i+2:]
	}
	return envLine.ReplaceAllString(message, "")
}

// name gives the app's name, before any file is read with its variables.
func (l *load) name() (string, position) {
	if l.o.Name != "" {
		return l.o.Name, position{}
	}
	if name := l.env["COMPOSE_PROJECT_NAME"]; name != "" {
		return name, position{}
	}
	var named *node
	for _, file := range l.files {
		p := &parser{l: l, file: l.shown(file), raw: true}
		data, err := l.readFile(file, maxComposeFile)
		if err != nil {
			continue
		}
		for _, doc := range l.decode(p.file, data) {
			for i := 0; i+1 < len(doc.Content); i += 2 {
				if doc.Content[i].Value == "name" {
					named = &node{kind: scalarNode, value: doc.Content[i+1].Value, pos: p.position(doc.Content[i+1])}
				}
			}
		}
	}
	if named != nil && named.text() != "" {
		text, _ := substitute(named.text(), func(name string) (string, bool) {
			value, ok := l.env[name]
			return value, ok
		})
		return text, named.pos
	}
	return folderName(l.project), position{}
}

// folderName makes an app's name of a folder's, as Docker Compose does.
func folderName(dir string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, strings.ToLower(filepath.Base(dir)))
	if name = strings.Trim(name, "-_"); name == "" {
		return "app"
	}
	return name[:min(len(name), 63)]
}

// checkedName gives the app's name, or reports why it can't be one.
func (l *load) checkedName() (string, bool) {
	name, at := l.name()
	if len(l.errors) > 0 {
		return "", false
	}
	if err := maru.CheckName("app", name); err != nil {
		if at == (position{}) {
			at = l.place()
		}
		l.failErr(at, "name", maru.Invalid, err)
		return "", false
	}
	return name, true
}

// readAll reads the files into l.src.
func (l *load) readAll(context.Context) {
	name, ok := l.checkedName()
	if !ok {
		return
	}
	if err := maru.CheckName("environment", l.o.Environment); err != nil {
		l.failErr(l.place(), "", maru.Invalid, err)
		return
	}
	l.app.Name, l.env["COMPOSE_PROJECT_NAME"] = name, name
	l.src = l.source(fileSet{files: l.files, dir: l.project, env: l.env})
	if l.src == nil && len(l.errors) == 0 {
		l.fail(l.place(), "", maru.Invalid, "the compose file is empty", "write at least one service")
	}
}
