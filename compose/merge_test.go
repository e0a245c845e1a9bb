package compose

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v4"
)

// merged gives the files of a folder as this package merges them, as one file.
func mergedText(t *testing.T, o Options) string {
	t.Helper()
	l := newLoad(o)
	for _, step := range []func(context.Context){l.prepare, l.readAll} {
		if step(context.Background()); len(l.errors) > 0 {
			t.Fatal(newIssues(l.errors))
		}
	}
	plain := l.src.plain().(map[string]any)
	delete(plain, "include")
	if services, ok := plain["services"].(map[string]any); ok {
		for _, s := range services {
			delete(s.(map[string]any), "extends")
		}
	}
	data, err := yaml.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "$", "$$")
}

// TestMergeAgrees holds the merging of nodes, which is for places, against compose-go's, which is for
// values: loaded as one file, the merged nodes give the same app.
func TestMergeAgrees(t *testing.T) {
	files, err := filepath.Glob("testdata/vectors/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if name == "include-extends" {
			continue // paths in included files are relative to their own folders
		}
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "app")
			for _, f := range archive.Files {
				writeFiles(t, dir, map[string]string{f.Name: string(f.Data)})
			}
			sameWhenMerged(t, Options{Dir: dir, Name: "app", Files: nil}, archive)
		})
	}
}

func sameWhenMerged(t *testing.T, o Options, archive *txtar.Archive) {
	t.Helper()
	if strings.HasPrefix(string(archive.Comment), "dir: ") {
		dir, _, _ := strings.Cut(strings.TrimPrefix(string(archive.Comment), "dir: "), "\n")
		o.Dir = filepath.Join(o.Dir, dir)
	}
	want, issues := mustLoad(t, o)
	if issues != nil {
		t.Fatal(issues)
	}
	writeFiles(t, o.Dir, map[string]string{"merged.yaml": mergedText(t, o)})
	o.Files = []string{"merged.yaml"}
	got, issues := mustLoad(t, o)
	if issues != nil {
		t.Fatal(issues)
	}
	if diff := cmp.Diff(want.App, got.App); diff != "" {
		t.Errorf("merged, it is another app (-compose-go +here):\n%s", diff)
	}
}

// TestOverrides merges what two files can say of each key in the ways that the specification has for it.
func TestOverrides(t *testing.T) {
	for _, c := range []struct{ name, base, over string }{
		{"list over mapping", "environment: {A: a, B: b}", "environment: [B=c, D]"},
		{"mapping over list", "environment: [A=a, B=b, A=d]", "environment: {B: c, E: }"},
		{"labels", "labels: [a=1]", "labels: {b: 2}"},
		{"depends on", "depends_on: [db]", "depends_on: {db: {condition: service_healthy}, cache: {condition: service_started}}"},
		{"depends on, back", "depends_on: {db: {condition: service_healthy}}", "depends_on: [cache, db]"},
		{"networks", "networks: [back]", "networks: {back: {aliases: [a]}, front: }"},
		{"command", "command: [a, b]", "command: c d"},
		{"entry point away", "entrypoint: [a, b]\ncommand: x", "entrypoint: []"},
		{"command away", "command: [a, b]", "command: !reset null"},
		{"test", "healthcheck: {test: [CMD, a], interval: 5s}", "healthcheck: {test: b}"},
		{"dns", "dns: 1.1.1.1", "dns: [9.9.9.9]"},
		{"tmpfs", "tmpfs: /a", "tmpfs: [/b, /a]"},
		{"env file", "env_file: a.env", "env_file: [{path: b.env}, a.env]"},
		{"extra hosts", "extra_hosts: [a=1.1.1.1]", "extra_hosts: {b: 2.2.2.2}"},
		{"volumes by target", "volumes: ['data:/data', './a:/a']", "volumes: ['./b:/data:ro']"},
		{"volumes, long", "volumes: ['data:/data']", "volumes: [{type: bind, source: ./x, target: /data}]"},
		{"secrets by target", "secrets: [s]", "secrets: [{source: other, target: /run/secrets/s}]"},
		{"ports", "ports: ['80:80']", "ports: ['80:80', '8080:80']"},
		{"ports overridden", "ports: ['80:80']", "ports: !override ['8080:80']"},
		{"cap add", "cap_add: [NET_ADMIN]", "cap_add: [NET_ADMIN, SYS_TIME]"},
		{"ulimits", "ulimits: {nofile: 5}", "ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}"},
		{"logging", "logging: {driver: json-file, options: {max-size: 1m}}", "logging: {driver: local}"},
		{"sysctls", "sysctls: [a=1]", "sysctls: {a: 2}"},
		{"null over", "user: a", "user: "},
		{"build", "build: .", "build: {target: x, args: [A=1]}"},
		{"build, back", "build: {context: ., args: {A: 1, B: 2}}", "build: {args: [B=3]}"},
		{"devices", "devices: ['/dev/a:/dev/x', /dev/b]", "devices: ['/dev/c:/dev/x:r']"},
		{"configs", "configs: [c]", "configs: [{source: c, target: /etc/c}, c]"},
		{"extra hosts as lists", "extra_hosts: {a: [1.1.1.1, 2.2.2.2]}", "extra_hosts: ['b:3.3.3.3']"},
		{"scalars", "labels: {a: 1, b: 1.5, c: true, e: 0o17, f: yes}", "labels: [g]"},
		{"mapping reset", "deploy: {replicas: 2, resources: {limits: {memory: 64m}}}", "deploy: {resources: !reset {}}"},
		{"x-maru", "x-maru: {route: a.example.com, scale: {min: 2}}", "x-maru: {route: b.example.com, timeout: 5s}"},
		{"x-maru lists", "x-maru: {route: [a.example.com], allow: [gateway]}", "x-maru: {route: [b.example.com], allow: [db]}"},
		{"merge key", "<<: {user: a, tty: true}\nuser: b", "<<: [{init: true}, {init: false, read_only: true}]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "app")
			rest := "  db: {image: db}\n  cache: {image: cache}\nnetworks: {back: , front: }\nvolumes: {data: }\nsecrets: {s: {file: a.env}, other: {file: b.env}}\nconfigs: {c: {content: x}}\n"
			writeFiles(t, dir, map[string]string{
				"compose.yaml":          "services:\n  web:\n    image: x\n" + indented(c.base) + rest,
				"compose.override.yaml": "services:\n  web:\n" + indented(c.over),
				"a.env":                 "A=1\n", "b.env": "A=2\n", "Dockerfile": "FROM scratch\n",
			})
			sameWhenMerged(t, Options{Dir: dir}, &txtar.Archive{})
		})
	}
}

// TestPlaces looks whether a part is found where it was written last.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"compose.yaml":      "include: [sub/inc.yaml]\nx-base: &base\n  user: a\nservices:\n  web:\n    <<: *base\n    image: x\n    extends: {file: base.yaml, service: b}\n    ports:\n      - 80\n",
		"override.yaml":     "services:\n  web:\n    image: y\n    ports: [81]\n",
		"base.yaml":         "services:\n  b:\n    tty: true\n    extends: c\n  c:\n    init: true\n",
		"sub/inc.yaml":      "services:\n  side:\n    image: z\n    extends: {file: more.yaml, service: m}\n",
		"sub/more.yaml":     "services:\n  m:\n    user: q\n",
		"sub/compose.yaml":  "services: {}\n",
		"sub/unrelated.yml": "",
	})
	l := newLoad(Options{Dir: dir, Files: []string{"compose.yaml", "override.yaml"}, Name: "app"})
	l.prepare(context.Background())
	l.readAll(context.Background())
	if len(l.errors) > 0 {
		t.Fatal(newIssues(l.errors))
	}
	for path, want := range map[string]position{
		"services.web.image":   {"override.yaml", 3, 5},
		"services.web.user":    {"compose.yaml", 3, 3},
		"services.web.tty":     {"base.yaml", 3, 5},
		"services.web.init":    {"base.yaml", 6, 5},
		"services.web.ports.0": {"compose.yaml", 10, 9},
		"services.web.ports.1": {"override.yaml", 4, 13},
		"services.web.nothing": {"override.yaml", 2, 3},
		"services.side.image":  {"sub/inc.yaml", 3, 5},
		"services.side.user":   {"sub/more.yaml", 3, 5},
	} {
		if got := l.place(strings.Split(path, ".")...); got != want {
			t.Errorf("%s is at %v, want %v", path, got, want)
		}
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"ports", "profiles", "privileged", "image", "init"}
	for name, want := range map[string]string{"port": "ports", "prots": "ports", "imge": "image", "initt": "init", "zzz": "", "p": "", "PRIVILEGED": ""} {
		if got := nearest(name, known); got != want {
			t.Errorf("%q is near %q, want %q", name, got, want)
		}
	}
	if d := distance("kitten", "sitting"); d != 3 {
		t.Errorf("distance %d", d)
	}
}

func TestSignals(t *testing.T) {
	for text, want := range map[string]string{"TERM": "SIGTERM", "SIGINT": "SIGINT", "9": "SIGKILL", "sigusr1": "SIGUSR1", "SIGRTMIN+3": "SIGRTMIN+3", "28": "SIGWINCH"} {
		if got, ok := signalName(text); got != want || !ok {
			t.Errorf("%s is %s %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "0", "99", "NOPE", "SIGRTMIN+x", "SIGRTMIN+99"} {
		if got, ok := signalName(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}
