package compose

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// TestRoot loads files that somebody else wrote: nothing outside of their folder may be read.
func TestRoot(t *testing.T) {
	outside := t.TempDir()
	for name, text := range map[string]string{
		"secret": "TOKEN=hunter2\n", "compose.yaml": "services: {x: {image: hunter2}}\n",
		"web/Dockerfile": "FROM scratch\n", "go.mod": "module hunter2\n", "main.go": "package main\n", ".env": "TOKEN=hunter2\n",
	} {
		write(t, filepath.Join(outside, name), text)
	}
	for name, c := range map[string]struct {
		files map[string]string // "-> TARGET" makes a link
		says  string            // "": it loads
	}{
		"plain":             {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: vars}}", "vars": "A=b"}, ""},
		"link inside":       {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: link}}", "vars": "A=b", "link": "-> vars"}, ""},
		"optional":          {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: [{path: none, required: false}]}}"}, ""},
		"none":              {map[string]string{"x": ""}, "there is no compose file"},
		"env_file":          {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: OUT/secret}}"}, "compose.yaml:1"},
		"env_file optional": {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: [{path: OUT/secret, required: false}]}}"}, "not in the repository"},
		"env_file linked":   {map[string]string{"compose.yaml": "services: {web: {image: a, env_file: vars}}", "vars": "-> OUT/secret"}, "vars is not in the repository"},
		"label_file":        {map[string]string{"compose.yaml": "services: {web: {image: a, label_file: OUT/secret}}"}, "not in the repository"},
		".env":              {map[string]string{"compose.yaml": "services: {web: {image: 'a:${TOKEN}'}}", ".env": "-> OUT/secret"}, ".env is not in the repository"},
		"COMPOSE_FILE":      {map[string]string{"compose.yaml": "services: {web: {image: a}}", ".env": "COMPOSE_FILE=OUT/compose.yaml"}, "not in the repository"},
		"compose file":      {map[string]string{"compose.yaml": "-> OUT/compose.yaml"}, "compose.yaml is not in the repository"},
		"include":           {map[string]string{"compose.yaml": "include: [OUT/compose.yaml]\nservices: {web: {image: a}}"}, "not in the repository"},
		"included .env":     {map[string]string{"compose.yaml": "include: [sub/compose.yaml]", "sub/compose.yaml": "services: {web: {image: 'a:${TOKEN}'}}", "sub/.env": "-> OUT/secret"}, "not in the repository"},
		"extends":           {map[string]string{"compose.yaml": "services: {web: {extends: {file: OUT/compose.yaml, service: x}}}"}, "not in the repository"},
		"config":            {map[string]string{"compose.yaml": "services: {web: {image: a, configs: [c]}}\nconfigs: {c: {file: OUT/secret}}"}, "not in the repository"},
		"secret":            {map[string]string{"compose.yaml": "services: {web: {image: a, secrets: [c]}}\nsecrets: {c: {file: s}}", "s": "-> OUT/secret"}, "not in the repository"},
		"build":             {map[string]string{"compose.yaml": "services: {web: {build: OUT/web}}"}, "not in the repository"},
		"build linked":      {map[string]string{"compose.yaml": "services: {web: {build: ./web}}", "web": "-> OUT/web"}, "not in the repository"},
		"build context":     {map[string]string{"compose.yaml": "services: {web: {build: {context: ., additional_contexts: {x: OUT/web}}}}", "Dockerfile": "FROM scratch"}, "not in the repository"},
		"go module above":   {map[string]string{"compose.yaml": "services: {web: {build: .}}", "go.mod": "module a\nreplace b => ../../../b\n", "main.go": "package main"}, "not in the repository"},
		"go module linked":  {map[string]string{"compose.yaml": "services: {web: {build: .}}", "go.mod": "-> OUT/go.mod", "main.go": "package main"}, "not in the repository"},
		"bind":              {map[string]string{"compose.yaml": "services: {web: {image: a, volumes: ['./conf:/conf']}}", "conf/a": ""}, "compose.yaml:1"},
		"bind elsewhere":    {map[string]string{"compose.yaml": "services: {web: {image: a, volumes: ['/srv:/conf']}}"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "shop")
			for name, text := range c.files {
				text = strings.ReplaceAll(text, "OUT", outside)
				path := filepath.Join(root, name)
				target, linked := strings.CutPrefix(text, "-> ")
				if !linked {
					write(t, path, text)
					continue
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, path); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Load(t.Context(), Options{Dir: root, Root: root})
			switch {
			case c.says == "" && err != nil:
				t.Fatal(err)
			case c.says == "":
				return
			case err == nil:
				t.Fatalf("it loaded: %s", maru.Raw(r.App))
			case !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2"):
				t.Errorf("it says %v, want %q", err, c.says)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
