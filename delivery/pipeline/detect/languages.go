package detect

import (
	"encoding/json"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

var goVersion = regexp.MustCompile(`(?m)^go\s+(\d+\.\d+)`)

func goModule(tree fs.FS, dir string, names []string) *found {
	if !slices.Contains(names, "go.mod") {
		return nil
	}
	return &found{
		tests: anyFile(tree, dir, func(file string) bool { return strings.HasSuffix(file, "_test.go") }),
		image: tag("golang", version(goVersion, read(tree, dir, "go.mod")), "latest"),
		cache: "~/go/pkg/mod\n~/.cache/go-build", locks: "'**/go.sum'",
		run: []string{"export GOMODCACHE=~/go/pkg/mod; go vet ./... && go test -vet=off ./..."}, // to vet it all of it is compiled
	}
}

// manifest is what is asked of a package.json.
type manifest struct {
	Scripts        map[string]string `json:"scripts"`
	Engines        map[string]string `json:"engines"`
	PackageManager string            `json:"packageManager"`
}

var nodeMajor = regexp.MustCompile(`(\d+)`)

func node(tree fs.FS, dir string, names []string) *found {
	if !slices.Contains(names, "package.json") {
		return nil
	}
	var m manifest
	if json.Unmarshal([]byte(read(tree, dir, "package.json")), &m) != nil {
		return nil
	}
	said := version(nodeMajor, read(tree, dir, ".nvmrc"))
	if said == "" {
		said = version(nodeMajor, m.Engines["node"])
	}
	p := &found{image: tag("node", said, "22"), cache: "~/.npm", locks: "'**/package-lock.json'"}
	tool, install := "npm", "npm install --no-audit --no-fund"
	switch {
	case slices.Contains(names, "pnpm-lock.yaml") || strings.HasPrefix(m.PackageManager, "pnpm"):
		tool, install = "pnpm", "corepack enable && pnpm install --frozen-lockfile"
		p.cache, p.locks = "~/.local/share/pnpm/store", "'**/pnpm-lock.yaml'"
	case slices.Contains(names, "yarn.lock") || strings.HasPrefix(m.PackageManager, "yarn"):
		tool, install = "yarn", "corepack enable && yarn install"
		p.cache, p.locks = "~/.cache/yarn", "'**/yarn.lock'"
	case slices.Contains(names, "package-lock.json"):
		install = "npm ci --no-audit --no-fund"
	}
	p.run = []string{install}
	for _, script := range []string{"lint", "build", "test"} {
		if text := m.Scripts[script]; text != "" && !strings.Contains(text, "no test specified") {
			p.run = append(p.run, tool+" run "+script)
			p.tests = p.tests || script == "test"
		}
	}
	return p
}

var (
	pythonRequires = regexp.MustCompile(`(?m)^\s*(?:requires-python|python)\s*=\s*["'][^"'\d]*(3\.\d+)`)
	pythonVersion  = regexp.MustCompile(`(3\.\d+)`)
)

func python(tree fs.FS, dir string, names []string) *found {
	has := func(name string) bool { return slices.Contains(names, name) }
	if !has("pyproject.toml") && !has("setup.py") && !has("requirements.txt") && !has("setup.cfg") {
		return nil
	}
	project := read(tree, dir, "pyproject.toml")
	said := version(pythonVersion, read(tree, dir, ".python-version"))
	if said == "" {
		said = version(pythonRequires, project)
	}
	p := &found{image: tag("python", said, "3"), cache: "~/.cache/pip", locks: "'**/requirements*.txt', '**/pyproject.toml'", run: []string{"python -m pip install --upgrade pip"}}
	for _, name := range []string{"requirements.txt", "requirements-dev.txt", "dev-requirements.txt"} {
		if has(name) {
			p.run = append(p.run, "pip install -r "+name)
		}
	}
	if strings.Contains(project, "[build-system]") || strings.Contains(project, "[project]") || has("setup.py") {
		p.run = append(p.run, "pip install -e .")
	}
	p.tests = has("manage.py") || anyFile(tree, dir, func(file string) bool {
		base := path.Base(file)
		return strings.HasSuffix(base, ".py") && (strings.HasPrefix(base, "test") || strings.HasSuffix(base, "_test.py"))
	})
	if all := project + read(tree, dir, "requirements.txt") + read(tree, dir, "requirements-dev.txt") + read(tree, dir, "setup.cfg"); has("manage.py") && !strings.Contains(all, "pytest") {
		p.run = append(p.run, "python manage.py test")
	} else if strings.Contains(all, "pytest") || has("pytest.ini") || has("conftest.py") || has("tox.ini") {
		p.run = append(p.run, "pip install pytest", "pytest")
	} else {
		// Code 5 is of no tests at all.
		p.run = append(p.run, "python -m unittest discover || [ $? -eq 5 ]")
	}
	return p
}

var (
	mavenRelease  = regexp.MustCompile(`<(?:maven\.compiler\.release|java\.version|release|maven\.compiler\.source)>\s*(?:1\.)?(\d+)`)
	gradleRelease = regexp.MustCompile(`(?:JavaLanguageVersion\.of\(|JavaVersion\.VERSION_|jvmToolchain\()\s*(\d+)`)
)

func java(tree fs.FS, dir string, names []string) *found {
	has := func(name string) bool { return slices.Contains(names, name) }
	tests := func() bool {
		return anyFile(tree, dir, func(file string) bool { return strings.Contains("/"+file, "/src/test/") })
	}
	switch {
	case has("pom.xml"):
		p := &found{image: tag("maven", "3-eclipse-temurin-"+or(version(mavenRelease, read(tree, dir, "pom.xml")), "21"), ""), cache: "~/.m2/repository", locks: "'**/pom.xml'", tests: tests()}
		p.run = []string{"mvn --batch-mode --no-transfer-progress verify"}
		if has("mvnw") {
			p.run = []string{"sh ./mvnw --batch-mode --no-transfer-progress verify"}
		}
		return p
	case has("build.gradle"), has("build.gradle.kts"), has("settings.gradle"), has("settings.gradle.kts"):
		said := version(gradleRelease, read(tree, dir, "build.gradle")+read(tree, dir, "build.gradle.kts"))
		p := &found{image: tag("gradle", "jdk"+or(said, "21"), ""), cache: "~/.gradle/caches", locks: "'**/*.gradle*', '**/gradle-wrapper.properties'", tests: tests()}
		p.run = []string{"gradle --no-daemon build"}
		if has("gradlew") {
			p.run = []string{"sh ./gradlew --no-daemon build"}
		}
		return p
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

var rustVersion = regexp.MustCompile(`(?m)^\s*(?:rust-version|channel)\s*=\s*["'](\d+\.\d+)`)

func rust(tree fs.FS, dir string, names []string) *found {
	if !slices.Contains(names, "Cargo.toml") {
		return nil
	}
	said := version(rustVersion, read(tree, dir, "rust-toolchain.toml")+read(tree, dir, "Cargo.toml"))
	return &found{
		tests: anyFile(tree, dir, func(file string) bool {
			return strings.HasSuffix(file, ".rs") && (strings.HasPrefix(file, "tests/") || strings.Contains(read(tree, dir, file), "#[test]"))
		}),
		image: tag("rust", said, "1"), cache: "~/.cargo/registry\ntarget", locks: "'**/Cargo.lock'",
		run: []string{"CARGO_HOME=~/.cargo cargo build --all-targets", "CARGO_HOME=~/.cargo cargo test"},
	}
}
