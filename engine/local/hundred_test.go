package local_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkHundred measures how long a hundred instances take until all serve, and what each costs in
// memory beside the program itself.
func BenchmarkHundred(b *testing.B) {
	cfg := newConfig(b)
	e, _ := startEngine(b, cfg)
	image := loadImage(b, e, nil)
	for b.Loop() {
		w := newWorkload("web", "1", image)
		w.Replicas = 100
		began := time.Now()
		apply(b, e, w)
		observe(b, e, w.ID, "ready", ready)
		b.ReportMetric(time.Since(began).Seconds(), "s")
		b.ReportMetric(float64(pssOf(b, "containerd-shim-maru", cfg.Layout.Run))/100/1024, "shim-MB-each")
		removeAll(b, e)
	}
	b.ReportMetric(0, "ns/op")
}

// pssOf gives the memory, in KiB, of the processes whose command line has all the texts, each shared
// page divided among its users.
func pssOf(t testing.TB, texts ...string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
processes:
	for _, file := range files {
		command, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, text := range texts {
			if !strings.Contains(string(command), text) {
				continue processes
			}
		}
		total += readPss(filepath.Join(filepath.Dir(file), "smaps_rollup"))
	}
	return total
}

func readPss(file string) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), "Pss:"); found {
			n, _ := strconv.Atoi(strings.Fields(value)[0])
			return n
		}
	}
	return 0
}
