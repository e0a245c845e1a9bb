package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marucloud/maru/internal/layout"
)

// Status is what tests read of "maru status -o json".
type Status struct {
	State   string `json:"state"`
	Rollout struct {
		Number int    `json:"number"`
		Phase  string `json:"phase"`
		Reason string `json:"reason"`
	} `json:"rollout"`
	Services []Service `json:"services"`
}

// Service is one service in Status.
type Service struct {
	Name      string     `json:"name"`
	State     string     `json:"state"`
	Message   string     `json:"message"`
	Release   int        `json:"release"`
	Ready     int        `json:"ready"`
	Wanted    int        `json:"wanted"`
	Instances []Instance `json:"instances"`
}

// Instance is one instance in Status.
type Instance struct {
	ID        string    `json:"id"`
	Phase     string    `json:"phase"`
	Ready     bool      `json:"ready"`
	Attempt   int       `json:"attempt"`
	AddressV4 string    `json:"addressV4"`
	Workload  string    `json:"workload"`
	Started   time.Time `json:"started"`
	Why       string    `json:"why"`
}

// Status asks how an app is.
func (m *Machine) Status(ctx context.Context, app string) (Status, error) {
	var s Status
	result, err := m.Run(ctx, "status", "--app", app, "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(result.Out), &s)
	}
	return s, err
}

// Instances gives the instances of a service. It fails the test when it can't.
func (m *Machine) Instances(t testing.TB, app, service string) []Instance {
	t.Helper()
	s, err := m.Status(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return s.Of(service).Instances
}

// Of gives one service.
func (s Status) Of(service string) Service {
	for _, one := range s.Services {
		if one.Name == service {
			return one
		}
	}
	return Service{}
}

// Apps gives the names of the apps.
func (m *Machine) Apps(ctx context.Context) ([]string, error) {
	var list struct {
		Apps []struct {
			Scope struct {
				App string `json:"app"`
			} `json:"scope"`
		} `json:"apps"`
	}
	result, err := m.Run(ctx, "ps", "--all", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(result.Out), &list)
	}
	names := []string{}
	for _, one := range list.Apps {
		names = append(names, one.Scope.App)
	}
	return names, err
}

// Process is the present state of one of the platform's processes.
type Process struct {
	Name  string `json:"name"`
	State string `json:"state"`
	PID   int    `json:"pid,string"`
}

// Processes gives the platform's processes, the supervisor too.
func (m *Machine) Processes(ctx context.Context) (map[string]Process, error) {
	var health struct {
		Processes []Process `json:"processes"`
	}
	result, err := m.Run(ctx, "status", "--platform", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(result.Out), &health)
	}
	all := map[string]Process{}
	for _, p := range health.Processes {
		all[p.Name] = p
	}
	return all, err
}

// PID finds one of the platform's processes without asking the server; 0: it does not run.
func (m *Machine) PID(process string) int {
	for pid, line := range commandLines() {
		words := strings.Split(line, "\x00")
		own := strings.Contains(line, "\x00--run\x00"+m.Layout.Run+"\x00") || m.Layout == layout.Layout{}.Default() && !strings.Contains(line, "\x00--run\x00")
		if len(words) > 1 && words[0] == m.Program && words[1] == process && own {
			return pid
		}
	}
	return 0
}

// Kill ends one of the platform's processes with SIGKILL and gives its former number.
func (m *Machine) Kill(process string) (int, error) {
	pid := m.PID(process)
	if pid == 0 {
		return 0, fmt.Errorf("%s does not run", process)
	}
	return pid, syscall.Kill(pid, syscall.SIGKILL)
}

// KillInstance ends the processes of an instance with SIGKILL.
func (m *Machine) KillInstance(id string) error {
	pids := m.InstancePIDs(id)
	if len(pids) == 0 {
		return fmt.Errorf("instance %s has no process", id)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return err
		}
	}
	return nil
}

// InstancePIDs gives the processes in the cgroups of an instance.
func (m *Machine) InstancePIDs(id string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), m.Layout.Cgroup()+"/instances/"+id+".") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// commandLines gives the arguments of all processes.
func commandLines() map[int]string {
	all := map[int]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || len(content) == 0 {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			all[pid] = string(content)
		}
	}
	return all
}

// Memory gives the proportional set size of a process, in bytes; 0: it does not run.
func Memory(pid int) int64 {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
