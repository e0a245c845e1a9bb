package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// heavyDockerfile has four stages that can be built at the same time, each of which computes, writes and
// compresses; round makes each build a cold one.
func heavyDockerfile(round int) string {
	var text strings.Builder
	for stage := range 4 {
		fmt.Fprintf(&text, `FROM redis:7 AS s%[1]d
RUN echo round %[2]d && head -c 24M /dev/urandom >/data-%[1]d && sha256sum /data-%[1]d && gzip -1 /data-%[1]d
RUN gzip -dc /data-%[1]d.gz | sort -S 64M | sha256sum
`, stage, round)
	}
	text.WriteString("FROM redis:7\n")
	for stage := range 4 {
		fmt.Fprintf(&text, "COPY --from=s%[1]d /data-%[1]d.gz /\n", stage)
	}
	return text.String()
}

// TestIsolationOfBuilds holds what a parallel cold build does to the p99 of a service beside it against
// the bar only with MARU_TIMINGS, on a machine that does nothing else.
func TestIsolationOfBuilds(t *testing.T) {
	const limit = 10 * time.Millisecond
	timings := os.Getenv("MARU_TIMINGS") != ""
	rounds := 1
	if timings {
		rounds = 3
	}
	m := startWithRegistry(t)
	m.LoadImage(t)
	m.deploy(t, victim)
	folder := filepath.Dir(writeCompose(t, `
name: heavy
services:
  built:
    build: .
    command: ["sleep", "infinity"]
`))
	var quiet, busy []time.Duration
	for round := range rounds {
		if err := os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte(heavyDockerfile(round)), 0o644); err != nil {
			t.Fatal(err)
		}
		quiet = append(quiet, m.p99(t, "victim.localhost"))
		built := make(chan string, 1)
		go func() {
			_, failure, code := m.try(t, "deploy", "-f", filepath.Join(folder, "compose.yaml"))
			if code == 0 {
				failure = ""
			}
			built <- failure
		}()
		for building := true; building; {
			busy = append(busy, m.p99(t, "victim.localhost"))
			select {
			case failure := <-built:
				if failure != "" {
					t.Fatal(failure)
				}
				building = false
			default:
			}
		}
	}
	slices.Sort(quiet)
	slices.Sort(busy)
	without, with := quiet[len(quiet)/2], busy[len(busy)/2]
	t.Logf("p99 of the neighbour: %s without, %s with a build (%d measurements)", without, with, len(busy))
	if timings && with > max(2*without, without+limit) {
		t.Errorf("a build slows its neighbour: p99 %s, without %s", with, without)
	}
}
