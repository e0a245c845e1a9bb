package dockerfile

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"strings"
	"syscall"

	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	solvererrors "github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
)

// explain tells a person what failed, where it is written, and what the step said last.
func explain(ctx context.Context, err error, p *progress) error {
	if ctx.Err() != nil {
		return maru.Errorf(maru.Interrupted, "the build was interrupted: %w", context.Cause(ctx))
	}
	e := &build.StepError{Reason: reason(err)}
	var failed *solvererrors.VertexError
	if errors.As(err, &failed) {
		if v, ok := p.vertexes[digest.Digest(failed.Digest)]; ok {
			e.Step, e.Output = v.name, v.last
		}
	}
	var exit *gatewaypb.ExitError
	if errors.As(err, &exit) && exit.ExitCode < gatewaypb.UnknownExitStatus {
		e.ExitCode = int(exit.ExitCode)
	}
	locate(err, e)
	kind, hint := classify(err, e)
	if kind == "" {
		return e.Err()
	}
	return maru.WithHint(maru.Errorf(kind, "%w", e), hint)
}

// locate takes the innermost place: the line in the Dockerfile itself.
func locate(err error, e *build.StepError) {
	sources := solvererrors.Sources(err)
	if len(sources) == 0 {
		return
	}
	source := sources[0]
	if source.Info == nil || len(source.Ranges) == 0 || source.Ranges[0].Start == nil {
		return
	}
	e.File = source.Info.Filename
	first := int(source.Ranges[0].Start.Line)
	last := first
	for _, r := range source.Ranges {
		if r.End != nil {
			last = max(last, int(r.End.Line))
		}
	}
	lines := strings.Split(string(source.Info.Data), "\n")
	if first < 1 || first > len(lines) {
		return
	}
	e.Line = first
	e.Source = lines[first-1 : min(max(last, first), len(lines), first+9)]
}

var (
	wrapping = regexp.MustCompile(`^(failed to solve: |rpc error: code = \w+ desc = |dockerfile parse error on line \d+: )+`)
	metadata = regexp.MustCompile(`^.*failed to resolve source metadata for (\S+): (?:(?:\S+: )?not found$)?`)
	process  = regexp.MustCompile(`(?s)^process "(.*)" did not complete successfully: (exit code: \d+)`)
)

func reason(err error) string {
	text := wrapping.ReplaceAllString(err.Error(), "")
	if m := process.FindStringSubmatch(text); m != nil {
		return strings.Replace(m[2], "exit code:", "exit code", 1)
	}
	if m := metadata.FindStringSubmatch(text); m != nil {
		return "base image " + m[1] + ": " + cmp.Or(text[len(m[0]):], "not found")
	}
	return text
}

// classify tells failures that don't lie in the source from those that do, for which it gives "".
func classify(err error, e *build.StepError) (maru.Kind, string) {
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case e.ExitCode == 137:
		return maru.Invalid, "the step was killed, most likely for want of memory: make it use less, or raise the builder's memory budget"
	case e.ExitCode != 0:
		return "", ""
	case errors.Is(err, syscall.ENOSPC), has("no space left on device"):
		return maru.Exhausted, "the disk is full: `maru image prune` frees what is not used"
	case has("pull access denied", "401 Unauthorized", "403 Forbidden", "failed to fetch oauth token", "failed to fetch anonymous token"):
		return maru.Denied, "the registry refused: see whether the image's name is right, and log in to it with `maru login --registry`"
	case strings.HasPrefix(e.Reason, "base image ") && has(": not found"):
		return maru.NotFound, "there is no such image, neither here nor at the registry: see whether its name and tag are right"
	case has("dial tcp", "i/o timeout", "no such host", "connection refused", "TLS handshake timeout", "failed to do request"):
		return maru.Unavailable, "the registry can't be reached from this machine: see its network, or set a mirror"
	}
	return "", ""
}
