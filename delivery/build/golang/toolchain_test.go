package golang

import (
	"archive/zip"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/note"

	"github.com/marucloud/maru"
)

// moduleZip packs a toolchain of a few files and gives its hash.
func moduleZip(t *testing.T, file, version string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	prefix := "golang.org/toolchain@" + version + "/"
	for _, name := range []string{"bin/go", "pkg/tool/linux_amd64/compile", "src/_go.mod", "src/fmt/print.go", "src/fmt/fmt_test.go",
		"src/cmd/x/testdata/y", "test/x.go", "doc/x.html", "lib/time/zoneinfo.zip"} {
		entry, err := w.Create(prefix + name)
		if err == nil {
			_, err = entry.Write([]byte(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	hash, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// newToolchains gives toolchains from a proxy that is a folder, checked against a database of the test.
func newToolchains(t *testing.T, hashes map[string]string) (*toolchains, string) {
	t.Helper()
	signer, key, err := note.GenerateKey(rand.Reader, "sum.test")
	if err != nil {
		t.Fatal(err)
	}
	database := sumdb.NewServer(sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) {
		hash, ok := hashes[version]
		if !ok {
			return nil, os.ErrNotExist
		}
		return fmt.Appendf(nil, "%s %s %s\n%s %s/go.mod h1:x\n", path, version, hash, path, version), nil
	}))
	server := httptest.NewServer(http.StripPrefix("/sumdb/sum.test", database))
	t.Cleanup(server.Close)
	proxy := t.TempDir()
	fetch, err := newFetcher("file://" + proxy + "," + server.URL)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	root := t.TempDir()
	return &toolchains{
		root: filepath.Join(root, "toolchains"), fetch: fetch, log: log,
		sums: &checksums{fetch: fetch, key: key, root: filepath.Join(root, "sumdb"), log: log},
	}, proxy
}

func TestToolchain(t *testing.T) {
	hashes := map[string]string{}
	chains, proxy := newToolchains(t, hashes)
	versions := map[string]string{}
	for _, v := range []string{"1.99.1", "1.99.2", "1.99.3", Version} {
		versions[v] = "v0.0.1-go" + v + ".linux-" + runtime.GOARCH
		hashes[versions[v]] = moduleZip(t, filepath.Join(proxy, "golang.org/toolchain/@v", versions[v]+".zip"), versions[v])
	}
	hashes[versions["1.99.2"]] = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	delete(hashes, versions["1.99.3"])

	var said []string
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			goroot, err := chains.ensure(t.Context(), "1.99.1", func(line string) { said = append(said, line) })
			if err != nil || filepath.Base(goroot) != "go1.99.1" {
				t.Errorf("%s, %v", goroot, err)
			}
		})
	}
	work.Wait()
	if len(said) != 2 {
		t.Errorf("it was fetched more than once: %q", said)
	}
	goroot := filepath.Join(chains.root, "go1.99.1")
	for name, mode := range map[string]os.FileMode{"bin/go": 0o755, "pkg/tool/linux_amd64/compile": 0o755, "src/go.mod": 0o644, "src/fmt/print.go": 0o644, "lib/time/zoneinfo.zip": 0o644} {
		if info, err := os.Stat(filepath.Join(goroot, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, name := range []string{"src/_go.mod", "src/fmt/fmt_test.go", "src/cmd/x/testdata", "test", "doc"} {
		if _, err := os.Stat(filepath.Join(goroot, name)); err == nil {
			t.Errorf("%s was kept", name)
		}
	}
	for version, kind := range map[string]maru.Kind{
		"1.99.2": maru.Denied,      // the proxy has something else than the database says
		"1.99.3": maru.Unavailable, // the database does not know it
		"1.99.4": maru.Invalid,     // nobody has it
		Version:  maru.Denied,      // not the pinned one, whatever the database says
	} {
		if _, err := chains.ensure(t.Context(), version, func(string) {}); maru.KindOf(err) != kind || maru.HintOf(err) == "" && kind != maru.Unavailable {
			t.Errorf("Go %s: %s %v", version, maru.KindOf(err), err)
		}
	}
	left, err := os.ReadDir(chains.root)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestDatabaseIsRemembered asks again, when the database has forgotten what it said.
func TestDatabaseIsRemembered(t *testing.T) {
	hashes := map[string]string{"v1.0.0": "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	chains, _ := newToolchains(t, hashes)
	for range 2 {
		got, err := chains.sums.lookup(t.Context(), "example.com/x", "v1.0.0")
		if err != nil || got != "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" {
			t.Fatalf("%q, %v", got, err)
		}
		hashes["v1.0.0"] = "h1:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB="
	}
}

func TestUnzipStaysInside(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.zip")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	if _, err := w.Create("p/../../evil"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := unzip(file, "p/", filepath.Join(dir, "out")); err == nil {
		t.Error("it was unpacked")
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Error("a file is outside of the folder")
	}
}

func TestLines(t *testing.T) {
	var got []string
	l := &lines{emit: func(s string) { got = append(got, s) }}
	long := strings.Repeat("x", maxLine+5)
	for _, piece := range []string{"on", "e\ntw", "o\r\n\n", long + "\n", "end"} {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Error(n, err)
		}
	}
	l.flush()
	want := []string{"one", "two", "", long[:maxLine], "xxxxx", "end"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d lines", len(got))
	}
	for range 2 * keptLines {
		_, _ = l.Write([]byte("more\n"))
	}
	if len(l.last) != keptLines {
		t.Errorf("%d lines are kept", len(l.last))
	}
}
