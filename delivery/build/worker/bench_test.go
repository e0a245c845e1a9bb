package worker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// server is a program of the size that services have.
const server = `package main

import (
	"encoding/json"
	"html/template"
	"log/slog"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		template.Must(template.New("").Parse("{{.}}")).Execute(w, r.URL)
		json.NewEncoder(w).Encode(changed)
	})
	slog.Info("ended", "error", http.ListenAndServe(":8080", nil))
}
`

func change(b *testing.B, dir string, n int) {
	b.Helper()
	source := fmt.Sprintf("package main\n\nvar changed = %d\n", n)
	if err := os.WriteFile(filepath.Join(dir, "changed.go"), []byte(source), 0o644); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkGo is one changed file of a Go program: by the Go command alone, and by the builder to an
// image that is ready to run. The difference is what the builder adds.
func BenchmarkGo(b *testing.B) {
	dir := b.TempDir()
	for name, content := range map[string]string{"go.mod": webModule, "main.go": server} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	n := os.Getpid() * 1000
	b.Run("command", func(b *testing.B) {
		for range b.N {
			n++
			change(b, dir, n)
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", filepath.Join(b.TempDir(), "app"), ".")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		}
	})
	r := newRig(b, nil)
	r.mustBuild(b, goRequest(dir, "."))
	b.Run("image", func(b *testing.B) {
		for range b.N {
			n++
			change(b, dir, n)
			r.mustBuild(b, goRequest(dir, "."))
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for range b.N {
			r.mustBuild(b, goRequest(dir, "."))
		}
	})
}
