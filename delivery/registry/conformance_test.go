package registry_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOCIConformance runs the conformance tests of the distribution specification. What they try and is not done
// is that content has other digests than by SHA-256, and that manifests lack parts (docs/registry.md).
func TestOCIConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	folder := t.TempDir()
	program := filepath.Join(folder, "conformance")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../tools/conformance", "-o", program, "github.com/opencontainers/distribution-spec/conformance")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the conformance tests: %v\n%s", err, out)
	}
	g := newRig(t)
	run := exec.CommandContext(t.Context(), program)
	run.Dir = folder
	run.Env = append(os.Environ(), "OCI_REGISTRY="+g.server.Listener.Addr().String(), "OCI_TLS=disabled", "OCI_USERNAME=anybody", "OCI_PASSWORD=all",
		"OCI_VERSION=dev", "OCI_REPO1=conformance/one", "OCI_REPO2=conformance/two", "OCI_RESULTS_DIR="+folder,
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_MANIFESTS_TAG_PARAM=true",
		"OCI_DATA_SPARSE=false", "OCI_DATA_SHA512=false")
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "OCI Conformance Result: Pass") {
		t.Errorf("%v\n%s", err, out)
	}
}
