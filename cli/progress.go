package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/proto"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// redrawEvery is how often a live view is drawn at the most.
const redrawEvery = 50 * time.Millisecond

// event is one message of a stream that reports on a rollout. One of the first three is set.
type event struct {
	progress *maruv1.Progress
	status   *maruv1.RolloutStatus
	result   *maruv1.DeployResult
	message  proto.Message
}

// follow shows a rollout as it goes until next gives no more, then tells how it ended.
func (s *shell) follow(scope *maruv1.Scope, next func(*event) bool, ended func() error) error {
	v := s.newView()
	defer v.close()
	for e := (event{}); next(&e); {
		if s.output == "json" {
			if err := s.printLine(e.message); err != nil {
				return err
			}
			continue
		}
		v.show(e)
	}
	v.close()
	if err := ended(); err != nil {
		return err
	}
	if s.output != "json" {
		s.showResult(scope, v.cause, v.result)
	}
	return nil
}

func (s *shell) showResult(scope *maruv1.Scope, cause string, r *maruv1.DeployResult) {
	if r == nil {
		return
	}
	style := styles(s.Stdout)
	switch {
	case r.Unchanged:
		fmt.Fprintf(s.Stdout, "%s is up to date: nothing changed\n", scope.App)
	case r.Took == nil:
		fmt.Fprintf(s.Stdout, "rollout %d of %s has begun\n", r.Rollout, scope.App)
	case cause == "remove":
		fmt.Fprintf(s.Stdout, "%s %s was removed in %.1fs\n", style.good("✓"), scope.App, r.Took.AsDuration().Seconds())
	default:
		fmt.Fprintf(s.Stdout, "%s rollout %d of %s is serving after %.1fs\n", style.good("✓"), r.Rollout, scope.App, r.Took.AsDuration().Seconds())
	}
	for _, service := range r.Services {
		for _, address := range service.Addresses {
			fmt.Fprintf(s.Stdout, "  %-12s %s\n", service.Name, address)
		}
	}
}

// view shows a rollout: on a terminal as lines that change in place, elsewhere as a line for each change.
type view struct {
	out    io.Writer
	style  style
	live   bool
	quiet  bool
	width  int
	drawn  int // lines on the screen
	last   time.Time
	order  []string
	lines  map[string]*line
	closed bool
	cause  string // of the rollout
	result *maruv1.DeployResult
}

// line is what is known of one service.
type line struct {
	state, detail string
	step          int32  // of a rollout whose traffic moves step by step
	held          string // why it stays there
	began         time.Time
	final         bool
	logs          []string // the last of a build's or release step's output
}

func (s *shell) newView() *view {
	v := &view{out: s.Stderr, style: styles(s.Stderr), quiet: s.quiet || s.output == "json", lines: map[string]*line{}, width: 80}
	if file, ok := s.Stderr.(*os.File); ok && v.style.on {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 20 {
			v.live, v.width = true, width
		}
	}
	return v
}

func (v *view) show(e event) {
	switch {
	case e.result != nil:
		v.result = e.result
	case e.progress != nil:
		v.progress(e.progress)
	case e.status != nil:
		v.status(e.status)
	}
	if v.live && !v.quiet && time.Since(v.last) >= redrawEvery {
		v.draw()
	}
}

func (v *view) line(service string) *line {
	l := v.lines[service]
	if l == nil {
		l = &line{began: time.Now()}
		v.lines[service] = l
		v.order = append(v.order, service)
		slices.Sort(v.order)
	}
	return l
}

func (v *view) progress(p *maruv1.Progress) {
	l := v.line(p.Service)
	if p.Log != "" {
		l.logs = append(l.logs, p.Log)
		l.logs = l.logs[max(0, len(l.logs)-5):]
		v.plain("%s | %s", p.Service, p.Log)
		return
	}
	detail := p.Message
	if p.Total > 0 && p.Step == "pull" {
		detail = strings.TrimSpace(fmt.Sprintf("%s %s of %s", p.Message, size(p.Done), size(p.Total)))
	}
	state := map[string]string{"pull": "pulling", "build": "building", "release": "releasing"}[p.Step]
	if state == "" {
		state = p.Step
	}
	if p.State == "failed" {
		state = "failed"
	}
	if p.Step == "after" { // it fails nothing but itself
		state = "after " + p.State
	}
	changed := l.state != state || p.State == "started" || p.State == "failed"
	l.state, l.detail = state, detail
	if p.State == "done" || p.State == "skipped" {
		l.logs = nil
	}
	if changed && p.State != "skipped" {
		v.plain("%s: %s %s", p.Service, state, detail)
	}
}

func (v *view) status(s *maruv1.RolloutStatus) {
	v.cause = s.Rollout.GetCause()
	for name, part := range s.Rollout.GetServices() {
		l := v.line(name)
		detail := part.Reason
		for _, service := range s.Services {
			if service.Name == name && detail == "" {
				detail = fmt.Sprintf("%d of %d ready", service.Ready, service.Wanted)
				if service.Message != "" {
					detail += ": " + service.Message
				}
			}
		}
		if part.Phase != l.state {
			l.logs = nil
		}
		if part.Phase != l.state || part.Step != l.step || part.Held != l.held {
			v.plain("%s: %s %s", name, part.Phase, detail)
		}
		l.state, l.detail, l.step, l.held = part.Phase, detail, part.Step, part.Held
		l.final = part.Phase == "succeeded"
	}
}

// plain writes a line where there is no terminal to draw on.
func (v *view) plain(format string, args ...any) {
	if !v.live && !v.quiet {
		fmt.Fprintln(v.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

func (v *view) draw() {
	v.last = time.Now()
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", v.drawn)
	}
	v.drawn = 0
	longest := 0
	for _, name := range v.order {
		longest = max(longest, len(name))
	}
	write := func(plain, painted string) {
		b.WriteString(painted + "\n")
		v.drawn += 1 + (max(len([]rune(plain)), 1)-1)/v.width
	}
	for _, name := range v.order {
		l := v.lines[name]
		mark := v.style.warn("•")
		if l.final {
			mark = v.style.good("✓")
		} else if l.state == "failed" || l.state == "rolled-back" {
			mark = v.style.bad("✗")
		}
		detail := cut(l.detail, v.width-longest-18)
		write(fmt.Sprintf("• %-*s  %-12s %s", longest, name, l.state, detail),
			fmt.Sprintf("%s %-*s  %s %s", mark, longest, name, v.style.state(fmt.Sprintf("%-12s", l.state)), detail))
		for _, text := range l.logs {
			text = cut(text, v.width-4)
			write("    "+text, "    "+v.style.dim(text))
		}
	}
	_, _ = io.WriteString(v.out, b.String())
}

func cut(text string, width int) string {
	text = strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\t", " ")
	if runes := []rune(text); len(runes) > width && width > 1 {
		return string(runes[:width-1]) + "…"
	}
	return text
}

func (v *view) close() {
	if v.live && !v.quiet && !v.closed {
		v.draw()
	}
	v.closed = true
}

// transfer shows how much of something long has been sent.
type transfer struct {
	*view
	what string
	last time.Time
	seen bool
}

func (s *shell) transfer(what string) *transfer { return &transfer{view: s.newView(), what: what} }

func (t *transfer) set(done, total int64) {
	if !t.live || t.quiet || time.Since(t.last) < redrawEvery && done < total {
		return
	}
	t.last, t.seen = time.Now(), true
	fmt.Fprintf(t.out, "\r\x1b[K%s: %s of %s", t.what, size(done), size(total))
}

func (t *transfer) done() {
	if t.seen {
		fmt.Fprint(t.out, "\r\x1b[K")
	}
}
