package golang

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

func writeTree(t interface {
	Helper()
	Fatal(...any)
}, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func request(dir, pkg, version string) build.Request {
	return build.Request{Name: "x", Build: maru.Build{Context: dir, Go: &maru.GoBuild{Package: pkg, Go: version}}}
}

const program = "package main\n\nfunc main() {}\n"

func TestInspect(t *testing.T) {
	plain := map[string]string{"go.mod": "module a\n\ngo 1.26\n", "main.go": program, "cmd/web/main.go": program}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(plain)
		maps.Copy(all, more)
		return all
	}
	for name, c := range map[string]struct {
		files    map[string]string
		pkg, ask string
		want     source // of it pkg, dir, arg and version
		fetches  bool
		err      string
	}{
		"root":                {plain, "", "", source{pkg: ".", dir: ".", arg: ".", version: Version}, false, ""},
		"package":             {plain, "./cmd/web", "", source{pkg: "./cmd/web", dir: ".", arg: "./cmd/web", version: Version}, false, ""},
		"package, bare":       {plain, "cmd/web/", "", source{pkg: "./cmd/web", dir: ".", arg: "./cmd/web", version: Version}, false, ""},
		"asked":               {plain, ".", "go1.26.1", source{pkg: ".", dir: ".", arg: ".", version: "1.26.1"}, false, ""},
		"asked for a line":    {plain, ".", "1.26", source{}, false, "not a release"},
		"outside":             {plain, "../x", "", source{}, false, "not within"},
		"no files":            {plain, "./cmd", "", source{}, false, "no Go files"},
		"no module":           {map[string]string{"main.go": program}, ".", "", source{}, false, "no go.mod"},
		"broken module":       {with(map[string]string{"go.mod": "modul a"}), ".", "", source{}, false, "go.mod:1"},
		"older":               {with(map[string]string{"go.mod": "module a\n\ngo 1.20\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: Version}, false, ""},
		"later line":          {with(map[string]string{"go.mod": "module a\n\ngo 1.99\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: "1.99.0"}, false, ""},
		"later patch":         {with(map[string]string{"go.mod": "module a\n\ngo 1.99.4\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: "1.99.4"}, false, ""},
		"toolchain":           {with(map[string]string{"go.mod": "module a\n\ngo 1.26\n\ntoolchain go1.98.2\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: "1.98.2"}, false, ""},
		"requires":            {with(map[string]string{"go.mod": "module a\n\ngo 1.26\n\nrequire b.c/d v1.0.0\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: Version}, true, ""},
		"vendored":            {with(map[string]string{"go.mod": "module a\n\ngo 1.26\n\nrequire b.c/d v1.0.0\n", "vendor/modules.txt": ""}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: Version}, false, ""},
		"module in a folder":  {map[string]string{"svc/go.mod": "module s\n\ngo 1.26\n", "svc/cmd/x/main.go": program}, "./svc/cmd/x", "", source{pkg: "./svc/cmd/x", dir: "svc", arg: "./cmd/x", version: Version}, false, ""},
		"folder is a module":  {map[string]string{"svc/go.mod": "module s\n\ngo 1.26\n", "svc/main.go": program}, "./svc", "", source{pkg: "./svc", dir: "svc", arg: ".", version: Version}, false, ""},
		"workspace wants it":  {with(map[string]string{"go.work": "go 1.97.1\n\nuse .\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: "1.97.1"}, false, ""},
		"workspace goes away": {with(map[string]string{"go.work": "go 1.26\n\nuse (\n\t.\n\t../other\n)\n"}), ".", "", source{pkg: ".", dir: ".", arg: ".", version: Version}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeTree(t, dir, c.files)
			got, err := inspect(request(dir, c.pkg, c.ask))
			if c.err != "" {
				if maru.KindOf(err) != maru.Invalid || !strings.Contains(err.Error(), c.err) || maru.HintOf(err) == "" && c.err != "go.mod:1" {
					t.Fatalf("%v, hint %q", err, maru.HintOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (got.modules != "") != c.fetches || got.digest == "" {
				t.Errorf("modules %q, digest %q", got.modules, got.digest)
			}
			c.want.folder, c.want.modules, c.want.digest = dir, got.modules, got.digest
			if got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestInputs changes one file at a time: the digest changes when, and only when, the program could.
func TestInputs(t *testing.T) {
	files := map[string]string{
		"go.mod":                "module a\n\ngo 1.26\n\nreplace b.c/lib => ./third/lib\n",
		"go.sum":                "",
		"README.md":             "",
		"compose.yaml":          "",
		"web/main.go":           "package main\n\nimport _ \"a/internal/x\"\n\nfunc main() {}\n",
		"web/main_test.go":      "package main\n",
		"web/asm_amd64.s":       "",
		"web/notes.txt":         "",
		"web/default.pgo":       "",
		"internal/x/x.go":       "package x\n\nimport _ \"b.c/lib/deep\"\n\n//go:embed static\nvar F string\n",
		"internal/x/static/a.b": "1",
		"internal/y/y.go":       "package y\n",
		"worker/main.go":        "package main\n\nimport _ \"a/internal/y\"\n\nfunc main() {}\n",
		"third/lib/go.mod":      "module b.c/lib\n",
		"third/lib/deep/d.go":   "//go:build linux\n\npackage deep\n",
		"third/lib/other/o.go":  "package other\n",
	}
	counts := map[string]bool{"go.mod": true, "go.sum": true, "web/main.go": true, "web/asm_amd64.s": true, "web/default.pgo": true,
		"internal/x/x.go": true, "internal/x/static/a.b": true, "third/lib/go.mod": true, "third/lib/deep/d.go": true}
	digest := func(dir string) string {
		s, err := inspect(request(dir, "./web", ""))
		if err != nil {
			t.Fatal(err)
		}
		return s.digest
	}
	dir := t.TempDir()
	writeTree(t, dir, files)
	before := digest(dir)
	for name, content := range files {
		writeTree(t, dir, map[string]string{name: content + "\n"})
		if after := digest(dir); (after != before) != counts[name] {
			t.Errorf("a change of %s counts: %v", name, after != before)
		}
		writeTree(t, dir, map[string]string{name: content})
	}
	for name, counts := range map[string]bool{"web/new.go": true, "internal/x/static/new": true, "internal/y/new.go": false, "new.go": false} {
		writeTree(t, dir, map[string]string{name: "package main\n"})
		if after := digest(dir); (after != before) != counts {
			t.Errorf("a new %s counts: %v", name, after != before)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "web/main.go"), 0o700); err != nil {
		t.Fatal(err)
	}
	if digest(dir) != before {
		t.Error("a mode counts")
	}
}

func TestDigestDependsOnContentAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.MapOf(rapid.StringMatching(`[a-c]{1,3}\.go`), rapid.StringMatching(`// [a-z]{0,5}`)).Draw(t, "files")
		files["go.mod"], files["main.go"] = "module a\n", program
		var digests [2]string
		for i := range digests {
			dir, err := os.MkdirTemp("", "digest")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			writeTree(t, dir, files)
			s, err := inspect(request(dir, ".", ""))
			if err != nil {
				t.Fatal(err)
			}
			digests[i] = s.digest
		}
		if digests[0] != digests[1] {
			t.Fatalf("%v gives %v", files, digests)
		}
	})
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte("module a\n\ngo 1.26\n\nrequire b.c/d v1.0.0\n\nreplace b.c/d => ../d\n"), []byte("go 1.26\n\nuse (\n\t.\n\t./x\n)\n"), []byte(program))
	f.Add([]byte("module a\ntoolchain go1.27.1\nreplace x => /etc\n"), []byte("use /\n"), []byte("package main\nimport \"a/../../x\"\n//go:embed ..\n"))
	f.Fuzz(func(t *testing.T, mod, work, source []byte) {
		dir := t.TempDir()
		writeTree(t, dir, map[string]string{"go.mod": string(mod), "main.go": string(source)})
		if len(work) > 0 {
			writeTree(t, dir, map[string]string{"go.work": string(work)})
		}
		s, err := inspect(request(dir, ".", ""))
		if err == nil && (s.digest == "" || s.version == "") {
			t.Fatalf("%+v", s)
		}
	})
}

// TestTheFirstBuildIsAlone lets many builds wait for the machine before the cache is warm.
func TestTheFirstBuildIsAlone(t *testing.T) {
	b, err := New(t.TempDir(), nil, nil, func(string) string { return "" }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.parallel = 4
	b.slots = semaphore.NewWeighted(b.parallel)
	if err := os.MkdirAll(b.path("warm"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := b.acquire(t.Context(), "1.26.8")
	if err != nil || first != 4 {
		t.Fatal(first, err)
	}
	got := make(chan int64)
	for range 4 {
		go func() {
			share, err := b.acquire(t.Context(), "1.26.8")
			if err != nil {
				t.Error(err)
			}
			got <- share
		}()
	}
	select {
	case share := <-got:
		t.Fatalf("a build with share %d did not wait", share)
	default:
	}
	b.warm("1.26.8")
	b.slots.Release(first)
	for range 4 { // all four at the same time: none gives its share back
		if share := <-got; share != 1 {
			t.Errorf("share %d", share)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.acquire(ctx, "1.26.8"); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
}
