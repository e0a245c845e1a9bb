package compose

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/marucloud/maru"
)

func TestVariablesWin(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"compose.yaml": "services: {web: {image: nginx, environment: {A: $A, B: $B, C: $C, D: $D, PASSED: , ENV: $MARU_ENVIRONMENT, NAME: $COMPOSE_PROJECT_NAME}}}\n",
		".env":         "A=file\nB=file\nC=file\n",
		"other.env":    "D=other\n",
		"more.env":     "D=more\nA=more\n",
	})
	for _, c := range []struct {
		name string
		o    Options
		want map[string]string
	}{
		{"file", Options{Values: map[string]string{"D": ""}},
			map[string]string{"A": "file", "B": "file", "C": "file", "D": "", "ENV": "production", "NAME": "app"}},
		{"values over the file, the shell over both", Options{Values: map[string]string{"B": "value", "C": "value", "PASSED": "v"}, Env: map[string]string{"C": "shell", "D": "d"}},
			map[string]string{"A": "file", "B": "value", "C": "shell", "D": "d", "PASSED": "v", "ENV": "production", "NAME": "app"}},
		{"named files", Options{EnvFiles: []string{"other.env", "more.env"}, Environment: "staging", Values: map[string]string{"B": "", "C": ""}},
			map[string]string{"A": "more", "B": "", "C": "", "D": "more", "ENV": "staging", "NAME": "app"}},
		{"no file", Options{Env: map[string]string{"COMPOSE_DISABLE_ENV_FILE": "1", "A": "1", "B": "2", "C": "3", "D": "4"}},
			map[string]string{"A": "1", "B": "2", "C": "3", "D": "4", "ENV": "production", "NAME": "app"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Dir, c.o.Name = dir, "app"
			r, issues := mustLoad(t, c.o)
			if issues != nil {
				t.Fatal(issues)
			}
			if diff := cmp.Diff(c.want, r.App.Services["web"].Container.Env); diff != "" {
				t.Error(diff)
			}
			if len(r.Warnings) > 0 {
				t.Error(r.Warnings)
			}
		})
	}
}

func TestUnsetVariablesAreToldOnce(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"compose.yaml": `services:
  off: {image: "x:$GONE", profiles: [off]}
  web:
    image: nginx
    environment: {A: "${GONE}", B: "$GONE", C: '${ALSO}'}
`})
	r, issues := mustLoad(t, Options{Dir: dir})
	if issues != nil {
		t.Fatal(issues)
	}
	want := []string{
		"compose.yaml:5:23: services.web.environment.A: the variable GONE has no value and becomes empty",
		"compose.yaml:5:49: services.web.environment.C: the variable ALSO has no value and becomes empty",
	}
	var got []string
	for _, w := range r.Warnings {
		got = append(got, w.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFindsFiles(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"docker-compose.yml":        "services: {web: {image: base}}\n",
		"deep/down/here/x":          "",
		"named/app.yaml":            "services: {web: {image: app}}\n",
		"named/prod.yaml":           "services: {web: {command: run}}\n",
		"listed/.env":               "COMPOSE_FILE=a.yaml:b.yaml\n",
		"listed/a.yaml":             "services: {web: {image: a}}\n",
		"listed/b.yaml":             "services: {web: {image: b}}\n",
		"both/compose.yaml":         "services: {web: {image: first}}\n",
		"both/docker-compose.yml":   "services: {web: {image: second}}\n",
		"both/compose.override.yml": "services: {web: {user: me}}\n",
	})
	for _, c := range []struct {
		name, image, app string
		o                Options
		files            int
	}{
		{"above", "base", filepath.Base(dir), Options{Dir: filepath.Join(dir, "deep/down/here")}, 1},
		{"named", "app", "named", Options{Dir: dir, Files: []string{"named/app.yaml", "named/prod.yaml"}}, 2},
		{"listed in .env", "b", "listed", Options{Dir: filepath.Join(dir, "listed")}, 3},
		{"listed in the shell", "a", "listed", Options{Dir: filepath.Join(dir, "listed"), Env: map[string]string{"COMPOSE_FILE": "b.yaml;a.yaml", "COMPOSE_PATH_SEPARATOR": ";"}}, 3},
		{"with an override", "first", "both", Options{Dir: filepath.Join(dir, "both")}, 2},
		{"standard input", "stdin", "both", Options{Dir: filepath.Join(dir, "both"), Files: []string{"-"}, Stdin: strings.NewReader("services: {web: {image: stdin}}\n")}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, issues := mustLoad(t, c.o)
			if issues != nil {
				t.Fatal(issues)
			}
			if r.App.Services["web"].Image != c.image || r.App.Name != folderName(c.app) || len(r.Files) != c.files {
				t.Errorf("got the image %s of the app %s from %v", r.App.Services["web"].Image, r.App.Name, r.Files)
			}
		})
	}
}

func TestNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My.Folder_")
	writeFiles(t, dir, map[string]string{
		"named.yaml":   "name: from-${WHO}\nservices: {web: {image: x}}\n",
		"unnamed.yaml": "services: {web: {image: x}}\n",
	})
	env := map[string]string{"WHO": "me"}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Files: []string{"unnamed.yaml"}}, "myfolder"},
		{Options{Files: []string{"named.yaml"}, Env: env}, "from-me"},
		{Options{Files: []string{"unnamed.yaml", "named.yaml"}, Env: env}, "from-me"},
		{Options{Files: []string{"named.yaml"}, Env: map[string]string{"COMPOSE_PROJECT_NAME": "env", "WHO": "me"}}, "env"},
		{Options{Files: []string{"named.yaml"}, Env: env, Name: "v1.2"}, "v1.2"},
	} {
		c.o.Dir = dir
		r, issues := mustLoad(t, c.o)
		if issues != nil {
			t.Fatal(issues)
		}
		if r.App.Name != c.want {
			t.Errorf("the name is %s, want %s", r.App.Name, c.want)
		}
		if name, err := Name(c.o); name != c.want || err != nil {
			t.Errorf("Name gives %s, want %s: %v", name, c.want, err)
		}
	}
}

func TestNameOfWhatDoesNotLoad(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"compose.yaml": "name: shop\nservices: {web: {imagee: 'x:${TAG:?}'}}\n"})
	if name, err := Name(Options{Dir: dir}); name != "shop" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
	writeFiles(t, dir, map[string]string{"compose.yaml": "name: Shop!\n"})
	if _, err := Name(Options{Dir: dir}); maru.KindOf(err) != maru.Invalid || !strings.HasPrefix(err.Error(), "compose.yaml:1:7: ") {
		t.Errorf("got %v", err)
	}
}

func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"compose.yaml": `services:
  web: {image: x}
  a: {image: x, profiles: [one, two]}
  b: {image: x, profiles: [three], gpus: all}
`})
	for profiles, want := range map[string]string{"": "web", "two": "a web", "one,nothing": "a web"} {
		for _, o := range []Options{
			{Profiles: strings.FieldsFunc(profiles, func(r rune) bool { return r == ',' })},
			{Env: map[string]string{"COMPOSE_PROFILES": profiles}},
		} {
			o.Dir = dir
			r, issues := mustLoad(t, o)
			if issues != nil {
				t.Fatal(issues)
			}
			if got := strings.Join(sortedKeys(r.App.Services), " "); got != want {
				t.Errorf("with %q the services are %s, want %s", profiles, got, want)
			}
		}
	}
	if _, issues := mustLoad(t, Options{Dir: dir, Profiles: []string{"*"}}); issues == nil || maru.KindOf(issues) != maru.Unsupported {
		t.Errorf("what is refused in a profile that is on gives %v", issues)
	}
}

// TestSecretsStayApart looks for secrets where they must not be.
func TestSecretsStayApart(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"compose.yaml": `services:
  web:
    build: {context: ., secrets: [file, {source: env, target: id}]}
    secrets: [file, env, outside]
secrets:
  file: {file: ./value.txt}
  env: {environment: VALUE, name: other-name}
  outside: {external: true}
  unused: {file: missing.txt}
`,
		"value.txt":  "from-the-file\x00\xff",
		"Dockerfile": "FROM scratch\n",
	})
	r, issues := mustLoad(t, Options{Dir: dir, Env: map[string]string{"VALUE": "from-the-shell"}})
	if issues != nil {
		t.Fatal(issues)
	}
	if diff := cmp.Diff(map[string][]byte{"file": []byte("from-the-file\x00\xff"), "env": []byte("from-the-shell")}, r.SecretValues); diff != "" {
		t.Error(diff)
	}
	want := map[string]map[string][]byte{"web": {"file": []byte("from-the-file\x00\xff"), "id": []byte("from-the-shell")}}
	if diff := cmp.Diff(want, r.BuildSecrets); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]maru.SecretRef{"file": {Name: "file"}, "env": {Name: "other-name"}, "outside": {Name: "outside", External: true}}, r.App.Secrets); diff != "" {
		t.Error(diff)
	}
	if app := appJSON(t, r.App); strings.Contains(app, "from-the-") {
		t.Errorf("a secret is in the app: %s", app)
	}
	if want := []string{"compose.yaml", "value.txt"}; !slices.Equal(want, names(dir, r.Files)) {
		t.Errorf("the files are %v", r.Files)
	}
}

func names(dir string, files []string) []string {
	var short []string
	for _, file := range files {
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			rel = file
		}
		short = append(short, rel)
	}
	return short
}

func TestBound(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"compose.yaml": `services:
  web: {image: x, volumes: ["./a:/a", "/etc/b:/b:ro", "named:/n", "other:/v"]}
volumes: {named: {}, other: {driver_opts: {type: none, o: bind, device: ./c}}}
`})
	r, issues := mustLoad(t, Options{Dir: dir})
	if issues != nil {
		t.Fatal(issues)
	}
	if want := []string{"/etc/b", filepath.Join(dir, "a"), filepath.Join(dir, "c")}; !slices.Equal(want, r.Bound) {
		t.Errorf("bound are %v, want %v", r.Bound, want)
	}
}

func TestErrorsHaveAKindAndAHint(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]maru.Kind{
		"services: {web: {imagee: x}}":                                            maru.Invalid,
		"services: {web: {image: x, gpus: all}}":                                  maru.Unsupported,
		"services: {web: {image: x, gpus: all, foo: bar}}":                        maru.Invalid,
		"services: {web: {image: x, gpus: all, depends_on: [nobody]}}":            maru.Invalid,
		"services: {web: {image: x, networks: [n]}}\nnetworks: {n: {driver: ip}}": maru.Unsupported,
	} {
		writeFiles(t, dir, map[string]string{"compose.yaml": text})
		_, err := Load(context.Background(), Options{Dir: dir})
		var issues *Issues
		if !errors.As(err, &issues) || maru.KindOf(err) != want {
			t.Errorf("%s gives the kind %s, want %s: %v", text, maru.KindOf(err), want, err)
		}
		if len(issues.All) == 1 && maru.HintOf(err) != issues.All[0].Hint {
			t.Errorf("%s gives the hint %q", text, maru.HintOf(err))
		}
	}
}

func TestStandardInput(t *testing.T) {
	for name, stdin := range map[string]io.Reader{
		"there is no standard input": nil,
		"can't be read":              iotest.ErrReader(errors.New("gone")),
		"is too large":               strings.NewReader(strings.Repeat("#", maxComposeFile+1)),
	} {
		_, err := Load(context.Background(), Options{Dir: t.TempDir(), Files: []string{"-"}, Stdin: stdin})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
	_, err := Load(context.Background(), Options{Dir: t.TempDir(), Files: []string{"-"}, Stdin: strings.NewReader("services: {web: {imge: x}}")})
	if err == nil || !strings.HasPrefix(err.Error(), "-:1:18: ") {
		t.Errorf("got %v", err)
	}
}

func TestEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Load(ctx, Options{Dir: t.TempDir()}); maru.KindOf(err) != maru.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestFilesAreRegular makes sure that no named file hangs or fills the memory.
func TestFilesAreRegular(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.Truncate(create(t, large), 64<<20); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/dev/zero", "/dev/stdin", large, dir} {
		for _, text := range []string{
			"include: [FILE]\nservices: {web: {image: x}}",
			"include: [{path: ok.yaml, env_file: FILE}]\nservices: {web: {image: x}}",
			"services: {web: {image: x, env_file: FILE}}",
			"services: {web: {image: x, label_file: FILE}}",
			"services: {web: {image: x, extends: {file: FILE, service: a}}}",
			"services: {web: {image: x, configs: [c]}}\nconfigs: {c: {file: FILE}}",
			"services: {web: {image: x, secrets: [c]}}\nsecrets: {c: {file: FILE}}",
		} {
			writeFiles(t, dir, map[string]string{"compose.yaml": strings.ReplaceAll(text, "FILE", file), "ok.yaml": "services: {ok: {image: x}}"})
			_, issues := mustLoad(t, Options{Dir: dir})
			if issues == nil || maru.KindOf(issues) != maru.Invalid || issues.All[0].Line == 0 {
				t.Errorf("%s with %s gives %v", text, file, issues)
			}
		}
		if _, issues := mustLoad(t, Options{Dir: dir, Files: []string{file}}); issues == nil {
			t.Errorf("%s is read as a compose file", file)
		}
		writeFiles(t, dir, map[string]string{"compose.yaml": "services: {web: {image: x}}"})
		if _, issues := mustLoad(t, Options{Dir: dir, EnvFiles: []string{file}}); issues == nil {
			t.Errorf("%s is read as an env file", file)
		}
	}
}

func create(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadsAtOnce(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, keyFixtures)
	writeFiles(t, dir, map[string]string{"compose.yaml": "include: [sub/compose.yaml]\nservices: {web: {image: x, env_file: [app.env, {path: raw.env, format: raw}], x-maru: {health: /x}}}\n"})
	want, issues := mustLoad(t, Options{Dir: dir})
	if issues != nil {
		t.Fatal(issues)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			got, err := Load(context.Background(), Options{Dir: dir})
			if err != nil || !cmp.Equal(want.App, got.App) {
				t.Errorf("another app, or %v", err)
			}
		})
	}
	group.Wait()
	if want.App.Services["web"].Container.Env["QUOTED"] != "'kept $HOME'" {
		t.Errorf("the raw env file gives %v", want.App.Services["web"].Container.Env)
	}
}
