package images

import v1 "github.com/google/go-containerregistry/pkg/v1"

// Toolchains are the images for jobs of pipelines: two generations of Debian with what it has of each language,
// and Go from Go's own module. As those of the official images, but what a job finds under any of the names is
// the same root file system. In them package managers look nowhere but at what is there.
var Toolchains = []Recipe{
	{
		Repository: "golang", Tag: "1.25", suite: "bookworm",
		Also:     []string{"node:18", "python:3.11", "maven:3-eclipse-temurin-17", "buildpack-deps:jammy"},
		packages: append([]string{"openjdk-17-jdk-headless", "gradle"}, toolchainPackages...),
		before:   javaManual, after: goToolchain("go1.25.5") + offline, config: toolchainConfig,
	},
	{
		Repository: "golang", Tag: "1.26", suite: "trixie",
		Also:     []string{"golang:latest", "node:20", "node:lts", "python:3", "python:3.13", "maven:3-eclipse-temurin-21", "buildpack-deps:noble"},
		packages: append([]string{"openjdk-21-jdk-headless"}, toolchainPackages...),
		before:   javaManual, after: goToolchain("go1.26.0") + offline, config: toolchainConfig,
	},
}

var toolchainConfig = v1.Config{
	Cmd: []string{"bash"},
	Env: []string{"PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTOOLCHAIN=local", "PIP_NO_BUILD_ISOLATION=false"}, // false is how pip's variable means yes
}

var toolchainPackages = []string{
	"ca-certificates", "git", "nodejs", "npm", "python3", "python-is-python3", "python3-pip", "python3-setuptools", "python3-wheel", "python3-pytest",
	"maven", "libmaven-compiler-plugin-java", "libmaven-jar-plugin-java", "libmaven-resources-plugin-java", "libsurefire-java", "junit4",
}

// javaManual makes the folder in which Java's packages link manuals that are left out.
const javaManual = `mkdir -p "$1/usr/share/man/man1"`

// goToolchain puts Go in place, with its own packages compiled.
func goToolchain(version string) string {
	return `cp -r --no-preserve=mode,ownership "$(GOTOOLCHAIN=` + version + ` go env GOROOT)" "$1/usr/local/go"
chmod 755 "$1"/usr/local/go/bin/* "$1"/usr/local/go/pkg/tool/*/*
rm -rf "$1"/usr/local/go/test "$1"/usr/local/go/api "$1"/usr/local/go/doc
env GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0 GOROOT="$1/usr/local/go" GOCACHE="$1/root/.cache/go-build" "$1/usr/local/go/bin/go" build testing net/http database/sql
`
}

// offline has pip and Maven take what Debian's packages brought.
const offline = `printf '[global]\nno-index = true\nbreak-system-packages = true\n' > "$1/etc/pip.conf"
mkdir -p "$1/root/.m2"
printf '<settings><offline>true</offline><localRepository>/usr/share/maven-repo</localRepository></settings>\n' > "$1/root/.m2/settings.xml"
`
