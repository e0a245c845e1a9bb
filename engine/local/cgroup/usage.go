package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

func (h *Hierarchies) usageLegacy(path string) (Usage, error) {
	file := func(controller, name string) string { return filepath.Join(h.controllers[controller], path, name) }
	current, err := readNumber(file("memory", "memory.usage_in_bytes"))
	if err != nil {
		return Usage{}, gone(path, err)
	}
	stat, err := readFlat(file("memory", "memory.stat"))
	if err != nil {
		return Usage{}, gone(path, err)
	}
	usage := Usage{Memory: max(current-stat["total_inactive_file"], 0)}
	if limit, err := readNumber(file("memory", "memory.limit_in_bytes")); err == nil && limit < unlimited {
		usage.MemoryLimit = limit
	}
	if used, err := readNumber(file("cpuacct", "cpuacct.usage")); err == nil {
		usage.CPU = time.Duration(used)
	}
	if pids, err := readNumber(file("pids", "pids.current")); err == nil {
		usage.PIDs = pids
	}
	if h.controllers["blkio"] != "" {
		usage.ReadBytes, usage.WriteBytes = readBlkio(file("blkio", "blkio.throttle.io_service_bytes_recursive"))
	}
	return usage, nil
}

func (h *Hierarchies) usageUnified(folder string) (Usage, error) {
	cpu, err := readFlat(filepath.Join(folder, "cpu.stat"))
	if err != nil {
		return Usage{}, gone(folder, err)
	}
	usage := Usage{CPU: time.Duration(cpu["usage_usec"]) * time.Microsecond}
	if current, err := readNumber(filepath.Join(folder, "memory.current")); err == nil {
		usage.Memory = current
	}
	if stat, err := readFlat(filepath.Join(folder, "memory.stat")); err == nil {
		usage.Memory = max(usage.Memory-stat["inactive_file"], 0)
	}
	if limit, err := readNumber(filepath.Join(folder, "memory.max")); err == nil { // else it is "max"
		usage.MemoryLimit = limit
	}
	if pids, err := readNumber(filepath.Join(folder, "pids.current")); err == nil {
		usage.PIDs = pids
	}
	usage.ReadBytes, usage.WriteBytes = readIOStat(filepath.Join(folder, "io.stat"))
	return usage, nil
}

func gone(path string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return maru.Errorf(maru.NotFound, "cgroup %s: %w", path, err)
	}
	return fmt.Errorf("cgroup %s: %w", path, err)
}

func readNumber(file string) (int64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
}

// readFlat reads a file of lines "name number".
func readFlat(file string) (map[string]int64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	values := make(map[string]int64)
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			values[fields[0]] = n
		}
	}
	return values, nil
}

// readBlkio sums lines "major:minor Read number" and "major:minor Write number".
func readBlkio(file string) (read, written int64) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, err := strconv.ParseInt(fields[2], 10, 64)
		switch {
		case err != nil:
		case fields[1] == "Read":
			read += n
		case fields[1] == "Write":
			written += n
		}
	}
	return read, written
}

// readIOStat sums lines "major:minor rbytes=number wbytes=number …".
func readIOStat(file string) (read, written int64) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, 0
	}
	for _, field := range strings.Fields(string(content)) {
		name, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "rbytes":
			read += n
		case name == "wbytes":
			written += n
		}
	}
	return read, written
}
