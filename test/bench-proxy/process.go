package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// proxy is a running one with its figures.
type proxy struct {
	name, version, address string
	secure                 string // address by TLS; "": not measured
	cmd                    *exec.Cmd
	figures
}

func (p *proxy) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

// processes are the proxy's own and its children.
func (p *proxy) processes() []int {
	list := []int{p.cmd.Process.Pid}
	found, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range found {
		if f := stat(path); len(f) > 1 && f[1] == strconv.Itoa(p.cmd.Process.Pid) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}

// stat gives the fields behind the name: state, parent and so on (proc(5)).
func stat(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil // it ended
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// tick is what the kernel counts processor time in: USER_HZ, which is 100 on every architecture that
// Maru runs on.
const tick = 10 * time.Millisecond

func (p *proxy) processorTime() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.processes() {
		f := stat(fmt.Sprintf("/proc/%d/stat", pid))
		if len(f) < 13 {
			return 0, fmt.Errorf("%s: process %d ended", p.name, pid)
		}
		for _, field := range f[11:13] { // utime, stime
			n, err := strconv.Atoi(field)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// pss is the memory of the proxy's processes, what they share counted once.
func (p *proxy) pss() (int64, error) {
	var sum int64
	for _, pid := range p.processes() {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
				n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
		f.Close()
	}
	return sum, nil
}
