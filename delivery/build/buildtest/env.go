package buildtest

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Getenv is the environment with the test machine's module cache asked before the proxies.
func Getenv(name string) string {
	if name != "GOPROXY" {
		return os.Getenv(name)
	}
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 {
		return os.Getenv(name)
	}
	return "file://" + lines[0] + "/cache/download," + lines[1]
}

// Log gives a logger whose lines are the test's.
func Log(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}

// Program compiles a Go program to a static executable.
func Program(tb testing.TB, to, source string) {
	tb.Helper()
	dir := tb.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, file)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("compile: %v\n%s", err, out)
	}
}
