package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/compose"
)

// devBuildLines is how much of a build's output is kept in case it fails.
const devBuildLines = 200

// devView shows everything in one stream of lines, each with the service that it is of. It is safe for
// concurrent use.
type devView struct {
	*shell
	style style
	width int // of the longest service

	mu      sync.Mutex
	partial map[string][]byte // by instance and stream: of lines that are not complete
}

// devEvent is a line for programs.
type devEvent struct {
	Time     time.Time `json:"time"`
	Event    string    `json:"event"` // log, build, test, exec, change, deploy, sync, info, warning, error
	Service  string    `json:"service,omitempty"`
	Instance string    `json:"instance,omitempty"`
	Message  string    `json:"message"`
	Hint     string    `json:"hint,omitempty"`
	Paths    []string  `json:"paths,omitempty"`
}

func newDevView(s *shell, services []string) *devView {
	v := &devView{shell: s, style: styles(s.Stdout), partial: map[string][]byte{}}
	for _, name := range services {
		v.width = max(v.width, len(name))
	}
	v.width = max(v.width, len("maru"))
	return v
}

// show writes one event; mark colours its text.
func (v *devView) show(e devEvent, mark func(string) string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if v.output == "json" {
		data, err := json.Marshal(e)
		if err == nil {
			_, _ = fmt.Fprintf(v.Stdout, "%s\n", data) // a reader that is gone ends the command by its signal
		}
		return
	}
	name, colour := e.Service, "1"
	if name == "" {
		name = "maru"
	} else {
		h := fnv.New32a()
		_, _ = h.Write([]byte(name))
		colour = fmt.Sprint(31 + h.Sum32()%6)
	}
	bar := " | "
	if e.Event != "log" {
		bar = " > "
	}
	var out strings.Builder
	for line := range strings.SplitSeq(e.Message, "\n") {
		out.WriteString(v.style.paint(colour, fmt.Sprintf("%-*s", v.width, name)) + v.style.dim(bar) + mark(line) + "\n")
	}
	if e.Hint != "" {
		out.WriteString(strings.Repeat(" ", v.width) + v.style.dim(bar) + v.style.dim("hint:") + " " + e.Hint + "\n")
	}
	_, _ = fmt.Fprint(v.Stdout, out.String())
}

func plainly(text string) string { return text }

// say tells of what maru dev does.
func (v *devView) say(service, format string, args ...any) {
	v.show(devEvent{Event: "info", Service: service, Message: fmt.Sprintf(format, args...)}, v.style.dim)
}

func (v *devView) warn(message, hint string) {
	if !v.quiet {
		v.show(devEvent{Event: "warning", Message: "warning: " + message, Hint: hint}, v.style.warn)
	}
}

// line shows one of a command's output: of a build, a test, or an exec.
func (v *devView) line(service, event, line string) {
	v.show(devEvent{Event: event, Service: service, Message: strings.TrimRight(line, "\r\n")}, plainly)
}

func (v *devView) fail(err error) { v.failIn("", err) }

func (v *devView) failIn(service string, err error) {
	var issues *compose.Issues
	if errors.As(err, &issues) {
		for _, i := range issues.All {
			v.show(devEvent{Event: "error", Message: "error: " + i.String(), Hint: i.Hint}, v.style.bad)
		}
		return
	}
	v.show(devEvent{Event: "error", Service: service, Message: "error: " + err.Error(), Hint: maru.HintOf(err)}, v.style.bad)
}

// changed tells which change something follows from.
func (v *devView) changed(r *devRule, paths []string) {
	relative, _ := below(r.Path, paths[0])
	if relative == "." {
		relative = filepath.Base(paths[0])
	}
	if len(paths) > 1 {
		relative += fmt.Sprintf(" and %d more", len(paths)-1)
	}
	v.show(devEvent{Event: "change", Service: r.service, Message: fmt.Sprintf("%s changed: %s", relative, r.Action), Paths: paths}, v.style.dim)
}

func (v *devView) applied(r *devRule, instances int) {
	what := map[compose.WatchAction]string{compose.Sync: "synced", compose.Restart: "restarting", compose.SyncRestart: "synced, restarting",
		compose.SyncExec: "synced, " + "ran the command"}[r.Action]
	if instances > 1 {
		what += fmt.Sprintf(" in %d instances", instances)
	}
	v.show(devEvent{Event: "sync", Service: r.service, Message: what}, v.style.good)
}

// log shows what an instance wrote, by whole lines.
func (v *devView) log(e *maruv1.LogEntry) error {
	key := e.Instance + " " + e.Stream
	v.mu.Lock()
	line := append(v.partial[key], e.Line...)
	if e.Partial && len(line) < 1<<20 {
		v.partial[key] = bytes.Clone(line)
		v.mu.Unlock()
		return nil
	}
	delete(v.partial, key)
	v.mu.Unlock()
	v.show(devEvent{Time: at(e.Time), Event: "log", Service: serviceOfWorkload(e.Workload), Instance: e.Instance, Message: string(line)}, plainly)
	return nil
}

func at(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// serviceOfWorkload reads project/environment/app/service/name.
func serviceOfWorkload(workload string) string {
	parts := strings.Split(workload, "/")
	if len(parts) < 2 {
		return workload
	}
	return parts[len(parts)-2]
}

// devProgress shows how one deploy goes. The output of builds is shown when one fails.
type devProgress struct {
	view   *devView
	states map[string]string
	logs   map[string][]string
	broken []string // services whose build failed
}

func (p *devProgress) show(m *maruv1.DeployResponse) {
	if step := m.GetProgress(); step != nil {
		p.step(step)
	}
	for name, part := range m.GetStatus().GetRollout().GetServices() {
		p.tell(name, part.Phase, part.Reason)
	}
	if r := m.GetResult(); r != nil {
		p.result(r)
	}
}

func (p *devProgress) step(step *maruv1.Progress) {
	if step.Log != "" {
		lines := append(p.logs[step.Service], strings.Split(strings.TrimRight(step.Log, "\n"), "\n")...)
		p.logs[step.Service] = lines[max(0, len(lines)-devBuildLines):]
		return
	}
	switch step.State {
	case "started":
		state := map[string]string{"pull": "pulling", "build": "building", "release": "releasing"}[step.Step]
		p.tell(step.Service, state, "")
	case "failed":
		p.broken = append(p.broken, step.Service)
	}
}

func (p *devProgress) tell(service, state, reason string) {
	if state == "" || p.states[service] == state {
		return
	}
	p.states[service] = state
	message := state
	if reason != "" {
		message += ": " + reason
	}
	p.view.show(devEvent{Event: "deploy", Service: service, Message: message}, p.view.style.state)
}

func (p *devProgress) result(r *maruv1.DeployResult) {
	if r.Unchanged {
		p.view.show(devEvent{Event: "deploy", Message: "nothing changed"}, p.view.style.dim)
		return
	}
	message := fmt.Sprintf("rollout %d is serving", r.Rollout)
	if r.Took != nil {
		message += fmt.Sprintf(" after %.1fs", r.Took.AsDuration().Seconds())
	}
	p.view.show(devEvent{Event: "deploy", Message: message}, p.view.style.good)
	for _, s := range r.Services {
		for _, address := range s.Addresses {
			p.view.show(devEvent{Event: "deploy", Service: s.Name, Message: address}, p.view.style.bold)
		}
	}
}

// failed shows what the builds that failed printed.
func (p *devProgress) failed() {
	for _, service := range p.broken {
		for _, line := range p.logs[service] {
			p.view.line(service, "build", line)
		}
	}
}
