package golang

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

// Version is the Go that programs are built with, unless they need or ask for another.
const Version = "1.26.8"

// pinned are the hashes of that version's modules by architecture. Others are taken from the checksum
// database.
var pinned = map[string]string{
	"amd64": "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=",
	"arm64": "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=",
}

// toolchainModule is the module whose versions are Go toolchains.
const toolchainModule = "golang.org/toolchain"

// toolchains keeps unpacked Go toolchains in a folder.
type toolchains struct {
	root  string
	fetch *fetcher
	sums  *checksums
	log   *slog.Logger
	mu    sync.Mutex // one download at a time
}

// ensure gives the GOROOT of a version, fetching it the first time.
func (t *toolchains) ensure(ctx context.Context, version string, say func(line string)) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	goroot := filepath.Join(t.root, "go"+version)
	if now := time.Now(); os.Chtimes(goroot, now, now) == nil { // its last use, for Prune
		return goroot, nil
	}
	if err := os.MkdirAll(t.root, 0o755); err != nil {
		return "", fmt.Errorf("make toolchain folder: %w", err)
	}
	work, err := os.MkdirTemp(t.root, "tmp-")
	if err != nil {
		return "", fmt.Errorf("make toolchain folder: %w", err)
	}
	defer os.RemoveAll(work)
	module := "v0.0.1-go" + version + ".linux-" + runtime.GOARCH
	say("fetching Go " + version + " as module " + toolchainModule + "@" + module)
	archive := filepath.Join(work, "module.zip")
	if err := t.download(ctx, module, archive); err != nil {
		return "", toolchainHint(err, version)
	}
	say("checking its hash")
	if err := t.verify(ctx, version, module, archive); err != nil {
		return "", err
	}
	unpacked := filepath.Join(work, "go")
	if err := unzip(archive, toolchainModule+"@"+module+"/", unpacked); err != nil {
		return "", fmt.Errorf("unpack Go %s: %w", version, err)
	}
	if err := settle(unpacked, goroot); err != nil {
		return "", fmt.Errorf("keep Go %s: %w", version, err)
	}
	t.log.Info("fetched a Go toolchain", "version", version, "folder", goroot)
	return goroot, nil
}

func toolchainHint(err error, version string) error {
	if maru.KindOf(err) == maru.NotFound {
		return maru.WithHint(maru.Errorf(maru.Invalid, "there is no Go %s for %s: %w", version, runtime.GOARCH, err),
			"name a released version, such as "+Version)
	}
	return maru.WithHint(err, "the builder fetches Go from the module proxies in its GOPROXY; see whether they are reachable from this machine")
}

func (t *toolchains) download(ctx context.Context, module, to string) error {
	body, err := t.fetch.open(ctx, "/"+toolchainModule+"/@v/"+module+".zip", toolchainOrigin)
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("keep download: %w", err)
	}
	defer file.Close()
	if _, err := io.Copy(file, body); err != nil {
		return maru.Errorf(maru.Unavailable, "download: %w", err)
	}
	return file.Close()
}

func (t *toolchains) verify(ctx context.Context, version, module, archive string) error {
	want := pinned[runtime.GOARCH]
	if version != Version || want == "" {
		var err error
		if want, err = t.sums.lookup(ctx, toolchainModule, module); err != nil {
			return err
		}
	}
	got, err := dirhash.HashZip(archive, dirhash.Hash1)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "Go %s arrived damaged: %w", version, err)
	}
	if got != want {
		return maru.WithHint(maru.Errorf(maru.Denied, "Go %s from the module proxy has hash %s, not %s", version, got, want),
			"the proxy in GOPROXY serves something else under that name: use another one")
	}
	return nil
}

// settle moves a complete folder into place so that, after a power cut, it is whole or not there.
func settle(from, to string) error {
	if err := atomicfile.SyncTree(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// unzip unpacks what a build needs of a toolchain's module: neither its tests nor its documentation.
func unzip(archive, prefix, to string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	made := map[string]bool{}
	for _, f := range r.File {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok || f.FileInfo().IsDir() || !needed(name) {
			continue
		}
		if dir := path.Dir(name); !made[dir] {
			if err := root.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			made[dir] = true
		}
		if err := unzipFile(root, f, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func needed(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return top != "api" && top != "doc" && top != "misc" && top != "test" &&
		!strings.HasSuffix(name, "_test.go") && !strings.Contains(name, "/testdata/")
}

// unzipFile gives files the execute bits that a module's zip can't hold, and the go.mod files the
// name that they can't have in one.
func unzipFile(root *os.Root, f *zip.File, name string) error {
	mode := os.FileMode(0o644)
	if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "pkg/tool/") {
		mode = 0o755
	}
	if dir, base := path.Split(name); base == "_go.mod" {
		name = dir + "go.mod"
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}
