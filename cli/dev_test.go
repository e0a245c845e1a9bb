package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/compose"
)

func TestDevHost(t *testing.T) {
	for host, want := range map[string]string{
		"shop.localhost":     "shop.dev-a.localhost",
		"api.shop.localhost": "api.shop.dev-a.localhost",
		"shop.example.com":   "shop.example.com.dev-a.localhost",
		"*.example.com":      "*.example.com.dev-a.localhost",
		"":                   "my-shop.dev-a.localhost",
		"localhost":          "my-shop.dev-a.localhost",
	} {
		if got := devHost("my.shop", host, "dev-a.localhost"); got != want {
			t.Errorf("%q becomes %q, not %q", host, got, want)
		}
	}
}

func TestDevName(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"USER": "alice"}, "dev-alice"},
		{map[string]string{"USER": "root", "SUDO_USER": "Bob.B"}, "dev-bobb"},
		{map[string]string{"USERNAME": "Åsa"}, "dev-sa"},
		{nil, "dev"},
	} {
		got := devName(func(name string) string { return c.env[name] })
		if got != c.want || maru.CheckName("environment", got) != nil {
			t.Errorf("%v gives %q, not %q", c.env, got, c.want)
		}
	}
}

func TestDevAppMeetsNoOtherEnvironment(t *testing.T) {
	app := maru.App{Name: "shop", Services: map[string]maru.Service{
		"web": {Routes: []maru.Route{{Host: "shop.example.com"}}, Publish: []maru.PublishedPort{{HostPort: 8080}}},
		"db":  {},
	}}
	rules := []*devRule{{service: "db", WatchRule: compose.WatchRule{Action: compose.Restart}}}
	got := devApp(app, rules, devOptions{domain: "dev.localhost"})
	if web := got.Services["web"]; web.Routes[0].Host != "shop.example.com.dev.localhost" || web.Publish[0].HostPort != 0 || web.Container.Init {
		t.Errorf("web is %+v", web)
	}
	if !got.Services["db"].Container.Init {
		t.Error("db can't be restarted in place")
	}
	if web := app.Services["web"]; web.Routes[0].Host != "shop.example.com" || web.Publish[0].HostPort != 8080 {
		t.Errorf("the file's app was changed: %+v", web)
	}
	if got := devApp(app, nil, devOptions{domain: "d", publish: true}); got.Services["web"].Publish[0].HostPort != 8080 {
		t.Error("--publish does not keep the file's ports")
	}
}

// put writes files for a test; their content is their name.
func put(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDevRuleMatches(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "src/a.js", "Dockerfile")
	if err := os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte("**/*.log\nsrc/out\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(dir, "src")
	r, err := newDevRule("web", &maru.Build{Context: dir, Dockerfile: "Dockerfile"}, compose.WatchRule{
		Path: src, Action: compose.Sync, Target: "/app", Ignore: []string{"node_modules/", "!node_modules/kept"}, Include: []string{"**/*.js", "node_modules"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"a.js": true, "deep/b.js": true, ".": true, "a.css": false, "x.log": false, "out/c.js": false,
		"node_modules/x/y.js": false, "node_modules/kept/z.js": true, ".git/hooks/a.js": false, "a.js~": false, "../a.js": false,
	} {
		if got := r.matches(filepath.Join(src, name)); got != want {
			t.Errorf("a change of %s is followed: %t", name, got)
		}
	}
	if !r.skips(filepath.Join(src, "out")) || r.skips(filepath.Join(src, "node_modules")) || r.skips(src) {
		t.Error("the wrong folders are watched")
	}
	if got := r.target(filepath.Join(src, "deep", "b.js")); got != "/app/deep/b.js" {
		t.Errorf("b.js goes to %s", got)
	}
}

func TestDevRulesWithoutDevelop(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "web/main.go", "shared/x")
	loaded := compose.Result{App: maru.App{Services: map[string]maru.Service{
		"web": {Build: &maru.Build{Context: filepath.Join(dir, "web"), Contexts: map[string]string{"x": filepath.Join(dir, "shared"), "y": "docker-image://y"}}},
		"db":  {Image: "db"},
	}}}
	rules, err := devRules(loaded, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		got = append(got, r.service+" "+string(r.Action)+" "+r.Path)
	}
	want := []string{"web rebuild " + filepath.Join(dir, "shared"), "web rebuild " + filepath.Join(dir, "web")}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if rules, err := devRules(loaded, []string{"db"}); err != nil || len(rules) > 0 {
		t.Errorf("db has %v, %v", rules, err)
	}
}

func TestPackChanges(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a.txt", "new/b.txt", "new/skipped/c.txt")
	if err := os.Symlink("a.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	r, err := newDevRule("web", nil, compose.WatchRule{Path: dir, Action: compose.Sync, Target: "/app", Ignore: []string{"**/skipped"}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var paths []string
	for _, name := range []string{"a.txt", "gone/x", "link", "new"} {
		paths = append(paths, filepath.Join(dir, name))
	}
	if err := packChanges(&out, r, paths); err != nil {
		t.Fatal(err)
	}
	var got []string
	for archive := tar.NewReader(&out); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(archive)
		got = append(got, h.Name+" "+string(data)+h.Linkname)
	}
	want := []string{"/app/a.txt a.txt", "/app/gone/.wh.x ", "/app/link a.txt", "/app/new/b.txt new/b.txt"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTestCommand(t *testing.T) {
	for file, want := range map[string][]string{
		"go.mod": {"go", "test", "./..."}, "Cargo.toml": {"cargo", "test"}, "pytest.ini": {"python3", "-m", "pytest", "-q"},
		"package.json": nil, "README.md": nil,
	} {
		dir := t.TempDir()
		put(t, dir, file)
		if got := testCommand(dir); !slices.Equal(got, want) {
			t.Errorf("with %s tests are run by %v", file, got)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"scripts": {"test": "vitest"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := testCommand(dir); !slices.Equal(got, []string{"npm", "test", "--silent"}) {
		t.Errorf("tests of a package are run by %v", got)
	}
}
