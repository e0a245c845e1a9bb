package compose

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
)

func TestWatchRules(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"src/app.js": "", "nginx.conf": "", "Dockerfile": "FROM scratch\n", "compose.yaml": `
name: site
services:
  web:
    build: .
    develop:
      watch:
        - {path: ./src, action: sync, target: /app/src/, ignore: [node_modules/], include: ["*.js"], initial_sync: true}
        - {path: nginx.conf, action: sync+restart, target: /etc/nginx/}
        - {path: ./src, action: sync+exec, target: /app, exec: {command: kill -HUP 1, user: root, environment: [A=b]}}
        - {path: Dockerfile, action: rebuild}
  db:
    image: db
`})
	r, err := Load(context.Background(), Options{Dir: dir})
	if err != nil || len(r.Warnings) > 0 {
		t.Fatal(err, r.Warnings)
	}
	src := filepath.Join(dir, "src")
	want := map[string][]WatchRule{"web": {
		{Path: src, Action: Sync, Target: "/app/src", Ignore: []string{"node_modules/"}, Include: []string{"*.js"}, InitialSync: true},
		{Path: filepath.Join(dir, "nginx.conf"), Action: SyncRestart, Target: "/etc/nginx/nginx.conf"},
		{Path: src, Action: SyncExec, Target: "/app", Exec: &maru.ExecCommand{Args: []string{"kill", "-HUP", "1"}, User: "root", Env: map[string]string{"A": "b"}}},
		{Path: filepath.Join(dir, "Dockerfile"), Action: Rebuild},
	}}
	// The size and the signals of a terminal are not what is compared.
	same := cmp.Comparer(func(a, b *maru.ExecCommand) bool { return string(maru.Raw(a)) == string(maru.Raw(b)) })
	if d := cmp.Diff(want, r.Watch, same); d != "" {
		t.Error(d)
	}
}

func TestWatchRuleThatCannotBeFollowedIsNoFaultOfTheApp(t *testing.T) {
	for rule, complaint := range map[string]string{
		"{path: ., action: rebuild}":                                              "the service is not built",
		"{path: ., action: sync}":                                                 "needs a place in the instance",
		"{path: ., action: sync, target: app}":                                    "not an absolute path",
		"{path: none, action: restart}":                                           "there is no file or folder none",
		"{path: ., action: sync+exec, target: /a}":                                "has nothing to run",
		`{path: ., action: restart, ignore: ["[a"]}`:                              "a pattern can't be read",
		"{path: ., action: sync, target: /a, exec: {command: a}, include: ['[']}": "a pattern can't be read",
	} {
		dir := t.TempDir()
		writeFiles(t, dir, map[string]string{"compose.yaml": "name: a\nservices: {web: {image: a, develop: {watch: [" + rule + "]}}}\n"})
		r, err := Load(context.Background(), Options{Dir: dir})
		if err != nil || len(r.Warnings) != 1 || len(r.Watch) > 0 {
			t.Errorf("%s: %v, %v, %v", rule, err, r.Warnings, r.Watch)
			continue
		}
		if w := r.Warnings[0]; !strings.Contains(w.Message, complaint) || w.Hint == "" || w.Line != 2 {
			t.Errorf("%s: %+v", rule, w)
		}
	}
}
