package machinetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/machine"
)

// testBeside: a container of another image has files brought to it and taken from it, also where it has no shell.
func testBeside(t *testing.T, f Fixture) {
	c := start(t, f, machine.Spec{})
	folder := c.Paths().Workspace
	for _, image := range []string{f.Service, f.Image} {
		a, err := c.Beside(t.Context(), machine.Image{Reference: image}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var in bytes.Buffer
		w := tar.NewWriter(&in)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/deep", Mode: 0o755})
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: folder + "/deep/file", Mode: 0o750, Size: 4})
		_, _ = io.WriteString(w, "text")
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: folder + "/link", Linkname: "deep/file"})
		_ = w.Close()
		if err := a.CopyIn(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
		if image == f.Image {
			var out bytes.Buffer
			code, err := a.Exec(t.Context(), maru.ExecCommand{Args: []string{"sh", "-c", `cat link; echo "$A" > made; exit 3`}, Dir: folder, Env: map[string]string{"A": "a"}}, nil, &out, &out)
			if err != nil || code != 3 || out.String() != "text" {
				t.Errorf("%d, %v: %s", code, err, out.String())
			}
		}
		var out bytes.Buffer
		if err := a.CopyOut(t.Context(), folder, &out); err != nil {
			t.Fatal(err)
		}
		found := contents(t, &out)
		if found["deep/file"] != "text" || found["link"] != "-> deep/file" || image == f.Image && found["made"] != "a\n" {
			t.Errorf("%s has %v", image, found)
		}
		if err := a.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Beside(t.Context(), machine.Image{Reference: f.Missing}, nil); err == nil {
		t.Error("a container of an image that is not there")
	}
}

// contents are what a tar stream has, by name.
func contents(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	found := map[string]string{}
	for in := tar.NewReader(archive); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if found[name] = string(data); h.Typeflag == tar.TypeSymlink {
			found[name] = "-> " + h.Linkname
		}
	}
}
