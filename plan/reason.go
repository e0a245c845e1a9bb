package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// LastWords begins what follows in a reason: lines that a program wrote last.
const LastWords = "; its last words: "

// Why says in words why an instance does not take traffic; "" when it does, or a job is done.
func Why(now time.Time, i maru.Instance, c maru.Container) string {
	switch i.Phase {
	case maru.PhaseDone:
		return ""
	case maru.PhasePending, maru.PhaseCreating:
		return clause(string(i.Phase), i.Message)
	case maru.PhaseDraining, maru.PhaseStopping:
		return string(i.Phase)
	case maru.PhaseRunning:
		return running(i, c)
	}
	text := ending(i, c)
	if i.Phase == maru.PhaseBackoff && i.NextStart.After(now) {
		text += fmt.Sprintf(", starts again in %s (attempt %d)", words(max(i.NextStart.Sub(now).Round(time.Second), time.Second)), i.Attempt+1)
	}
	return text + lastLines(i.LastExit)
}

func running(i maru.Instance, c maru.Container) string {
	if i.Ready {
		return ""
	}
	text := clause("runs but is not ready", i.Message)
	if i.LastExit != nil {
		text += fmt.Sprintf("; before, it %s%s", exit(*i.LastExit, c), lastLines(i.LastExit))
	}
	return text
}

func ending(i maru.Instance, c maru.Container) string {
	if i.LastExit == nil {
		return clause("could not be started", i.Message)
	}
	text := exit(*i.LastExit, c)
	if i.Phase == maru.PhaseFailed && i.Attempt > 1 {
		text += fmt.Sprintf(" after %d attempts", i.Attempt)
	}
	return text
}

// exit says how a container ended, as what a sentence tells of it.
func exit(e maru.Exit, c maru.Container) string {
	switch {
	case e.OutOfMemory && c.Resources.Memory > 0:
		return fmt.Sprintf("was killed for using more memory than its limit of %s", Bytes(c.Resources.Memory))
	case e.OutOfMemory:
		return "was killed because memory ran out"
	case e.Probe != "":
		return "was stopped because its liveness probe failed: " + e.Probe
	case e.Signal != "":
		return "was ended by signal " + e.Signal
	}
	text := fmt.Sprintf("exited with code %d", e.Code)
	switch e.Code {
	case 0:
		if c.Restart.Policy == maru.RestartAlways {
			text += ", and is started again whenever it ends (restart: on-failure lets it be done)"
		}
	case 126:
		text += " (its command can't be executed)"
	case 127:
		text += " (its command was not found)"
	}
	return text
}

const (
	linesShown = 3
	lineShown  = 200 // bytes
)

func lastLines(e *maru.Exit) string {
	if e == nil || len(e.LastLines) == 0 {
		return ""
	}
	var lines []string
	for _, l := range e.LastLines[max(0, len(e.LastLines)-linesShown):] {
		if l = strings.TrimSpace(l); len(l) > lineShown {
			l = strings.ToValidUTF8(l[:lineShown], "") + "…"
		}
		if l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return LastWords + strings.Join(lines, " | ")
}

// worst says what is wrong with the instance of a workload that is farthest from being ready, with
// its name; "" when nothing is.
func worst(now time.Time, o maru.Observation, r maru.Release) string {
	rank := []maru.Phase{maru.PhaseFailed, maru.PhaseBackoff, maru.PhaseRunning, maru.PhasePending, maru.PhaseCreating}
	var found *maru.Instance
	for k := range o.Instances {
		i := &o.Instances[k]
		if at := slices.Index(rank, i.Phase); at < 0 || i.Ready || found != nil && slices.Index(rank, found.Phase) <= at {
			continue
		}
		found = i
	}
	if found == nil {
		return ""
	}
	if why := Why(now, *found, r.Spec.Container); why != "" {
		return found.ID + " " + why
	}
	return ""
}

// clause adds a reason, if there is one.
func clause(text, why string) string { return text + after(": ", why) }

func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

func join(parts []string) string { return strings.Join(parts, ", ") }

// words writes a duration as people do.
func words(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Millisecond)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// Bytes writes a size as people do.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + units[u]
}
