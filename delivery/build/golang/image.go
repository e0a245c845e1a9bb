package golang

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/delivery/build/imagestore"
)

// imageUser runs programs: the number that images without a shell commonly use for "nonroot".
const imageUser = 65532

// writer makes a layer whose bytes depend on its content alone.
type writer struct {
	tar  *tar.Writer
	time time.Time
	made map[string]bool
}

func (w *writer) header(h tar.Header) error {
	h.Format = tar.FormatPAX
	h.ModTime = w.time
	if err := w.parents(h.Name); err != nil {
		return err
	}
	return w.tar.WriteHeader(&h)
}

func (w *writer) parents(name string) error {
	dir := path.Dir(strings.TrimSuffix(name, "/"))
	if dir == "." || dir == "/" || w.made[dir] {
		return nil
	}
	return w.dir(dir, 0o755, 0)
}

func (w *writer) dir(name string, mode int64, owner int) error {
	if w.made[name] {
		return nil
	}
	w.made[name] = true
	return w.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: owner, Gid: owner})
}

func (w *writer) file(name string, mode, size int64, from io.Reader) error {
	if err := w.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(w.tar, from)
	return err
}

func (w *writer) bytes(name string, data []byte) error {
	return w.file(name, 0o644, int64(len(data)), bytes.NewReader(data))
}

// layer makes an uncompressed layer: what stays on this machine is not worth compressing.
func layer(at time.Time, fill func(*writer) error) (imagestore.Layer, error) {
	var buf bytes.Buffer
	w := &writer{tar: tar.NewWriter(&buf), time: at, made: map[string]bool{}}
	if err := fill(w); err != nil {
		return imagestore.Layer{}, err
	}
	if err := w.tar.Close(); err != nil {
		return imagestore.Layer{}, err
	}
	return imagestore.Layer{
		Digest: digest.FromBytes(buf.Bytes()),
		Size:   int64(buf.Len()),
		Open:   func() io.Reader { return bytes.NewReader(buf.Bytes()) },
	}, nil
}

// baseLayer holds what programs expect to find beside themselves: certificate authorities, time zones,
// user names and a folder for temporary files.
func baseLayer(goroot string, at time.Time) (imagestore.Layer, error) {
	return layer(at, func(w *writer) error {
		if err := w.dir("tmp", 0o1777, 0); err != nil {
			return err
		}
		if err := w.dir("home/nonroot", 0o700, imageUser); err != nil {
			return err
		}
		for _, f := range []struct{ name, content string }{
			{"etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"},
			{"etc/group", "root:x:0:\nnonroot:x:65532:\n"},
			{"etc/nsswitch.conf", "hosts: files dns\n"},
			{"etc/ssl/certs/ca-certificates.crt", string(authorities())},
		} {
			if err := w.bytes(f.name, []byte(f.content)); err != nil {
				return err
			}
		}
		return timeZones(w, filepath.Join(goroot, "lib", "time", "zoneinfo.zip"))
	})
}

// authorities are those that Mozilla trusts, apart from the ones with limits that a file can't say.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes all
		}
	}
	return out.Bytes()
}

func timeZones(w *writer, archive string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("time zones: %w", err)
	}
	defer r.Close()
	for _, f := range r.File {
		if f.FileInfo().IsDir() {
			continue
		}
		data, err := f.Open()
		if err != nil {
			return fmt.Errorf("time zones: %w", err)
		}
		err = w.file("usr/share/zoneinfo/"+f.Name, 0o644, int64(f.UncompressedSize64), data)
		data.Close()
		if err != nil {
			return fmt.Errorf("time zones: %w", err)
		}
	}
	return nil
}

// programLayer holds the program, and folders for the service's volumes that its user may write to.
func programLayer(program string, volumes []string, at time.Time) (imagestore.Layer, error) {
	return layer(at, func(w *writer) error {
		for _, v := range slices.Sorted(slices.Values(volumes)) {
			name := strings.TrimPrefix(path.Clean(v), "/")
			if name == "" || name == "." || name == "app" {
				return maru.Errorf(maru.Invalid, "a volume can't be mounted at %q in the image of a Go program", v)
			}
			if err := w.dir(name, 0o755, imageUser); err != nil {
				return err
			}
		}
		file, err := os.Open(program)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		return w.file("app", 0o755, info.Size(), file)
	})
}

// configuration is the image's config, which depends on nothing but what it is made of.
func configuration(labels map[string]string, at time.Time, layers ...imagestore.Layer) ([]byte, error) {
	image := ocispec.Image{
		Created:  &at,
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config: ocispec.ImageConfig{
			User:       fmt.Sprintf("%d:%d", imageUser, imageUser),
			Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/nonroot"},
			Entrypoint: []string{"/app"},
			WorkingDir: "/",
			Labels:     labels,
		},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	for i, l := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, l.Digest)
		image.History = append(image.History, ocispec.History{Created: &at, CreatedBy: []string{"maru: base", "maru: go build"}[i]})
	}
	return json.Marshal(image)
}

// manifestOf describes the image that a config and its layers make.
func manifestOf(config []byte, layers ...imagestore.Layer) ([]byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config)),
		},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.Digest, Size: l.Size})
	}
	return json.Marshal(m)
}

// epoch is the time of everything in the image.
func epoch(req build.Request) time.Time {
	if req.Epoch.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return req.Epoch.UTC().Truncate(time.Second)
}

// resultKey names the outcome of a build: what has the same key has the same image.
func resultKey(req build.Request, src source) string {
	data, err := json.Marshal(struct {
		Format                          int // grows when images come out otherwise from the same source
		Source, Package, Go, Arch, Time string
		Volumes                         []string
		Labels                          map[string]string
	}{1, src.digest, src.pkg, src.version, runtime.GOARCH, epoch(req).String(),
		slices.Sorted(slices.Values(req.Volumes)), req.Build.Labels})
	if err != nil {
		panic("golang: " + err.Error()) // strings always encode
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}
