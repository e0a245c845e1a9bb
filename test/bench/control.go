package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/marucloud/maru/test/host"
)

// measureControl runs the benchmarks of the control loops on the memory engine, and shows what they say.
func measureControl(ctx context.Context, _ options) ([]row, error) {
	root, err := host.Root()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "BenchmarkChange", "./control")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test: %w\n%s", err, out)
	}
	var rows []row
	for line := range strings.Lines(string(out)) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "Benchmark") {
			rows = append(rows, row{what: "control: " + name, measured: strings.Join(strings.Fields(rest), " ")})
		}
	}
	return rows, nil
}
