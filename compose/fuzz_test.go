package compose

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/marucloud/maru"
)

// FuzzLoad looks for files that Load does not survive, or that give an app it should not.
func FuzzLoad(f *testing.F) {
	for _, folder := range []string{"vectors", "invalid"} {
		files, err := filepath.Glob("testdata/" + folder + "/*.txtar")
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, part := range archive.Files {
				if strings.HasSuffix(part.Name, "compose.yaml") {
					f.Add(part.Data)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "compose.yaml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Load(context.Background(), Options{Dir: dir, Files: []string{file}, Name: "app"})
		var issues *Issues
		switch {
		case err == nil:
			checkApp(t, r.App)
		case !errors.As(err, &issues) || len(issues.All) == 0:
			t.Errorf("the error of Load is a %T: %v", err, err)
		}
	})
}

// checkApp looks for what no app has.
func checkApp(t *testing.T, app maru.App) {
	t.Helper()
	if len(app.Services) == 0 {
		t.Error("the app has no services")
	}
	for name, s := range app.Services {
		if err := maru.CheckName("service", name); err != nil {
			t.Error(err)
		}
		if s.Kind == "" || s.Update.Strategy == "" || s.Container.Restart.Policy == "" || s.Replicas < 0 || s.Image == "" && s.Build == nil {
			t.Errorf("the service %s is not whole: %s", name, maru.Raw(s))
		}
		for _, d := range s.DependsOn {
			if _, ok := app.Services[d.Service]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, d.Service)
			}
		}
		for network := range s.Networks {
			if _, ok := app.Networks[network]; !ok {
				t.Errorf("%s is on %s, which is not there", name, network)
			}
		}
		for _, m := range s.Container.Mounts {
			if _, ok := app.Volumes[m.Source]; m.Kind == maru.VolumeMount && m.Source != "" && !ok {
				t.Errorf("%s mounts %s, which is not there", name, m.Source)
			}
			if !filepath.IsAbs(m.Target) {
				t.Errorf("%s mounts at %q", name, m.Target)
			}
		}
		for _, c := range s.Configs {
			if _, ok := app.Configs[c.Source]; !ok {
				t.Errorf("%s has the config %s, which is not there", name, c.Source)
			}
		}
		for _, c := range s.Secrets {
			if _, ok := app.Secrets[c.Source]; !ok {
				t.Errorf("%s has the secret %s, which is not there", name, c.Source)
			}
		}
	}
}
