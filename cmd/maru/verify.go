package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
	"github.com/marucloud/maru/delivery/run"
)

// artifactsFor is how long artifacts are kept of a run that failed, for a retry of it.
const artifactsFor = 48 * time.Hour

// verification is one commit whose workflows are to say whether it is good.
type verification struct {
	*pipelines
	check   run.Check
	vars    map[string]string
	secrets map[string][]byte
	tell    func(maru.RunLogLine)

	images map[string]string // that jobs handed over, by service
}

func (v *verification) say(format string, args ...any) {
	v.tell(maru.RunLogLine{Time: time.Now().UTC(), Text: fmt.Sprintf(format, args...)})
}

// run runs the workflows that the push starts, and tells of it in lines. It gives an error when one does not
// succeed.
func (v *verification) run(ctx context.Context) error {
	if v.check.CI == "none" {
		v.say("nothing is tested before the deploy, as x-maru.ci says")
		return nil
	}
	root, err := os.OpenRoot(v.check.Folder)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "read the source tree: %w", err)
	}
	defer root.Close()
	github := v.check.CI == "github"
	push := workflow.Event{Name: workflow.Push, Ref: "refs/heads/" + v.check.Run.Branch}
	selection, err := pipeline.Select(root.FS(), pipeline.Choice{GitHub: github, Event: push, Tested: true})
	if err != nil {
		return err
	}
	for _, w := range selection.Warnings {
		v.say("warning: %s", w.String())
	}
	if len(selection.Project.Workflows) == 0 || selection.Default != "" {
		if _, err := root.Stat(workflow.Folder(true)); err == nil && !github {
			v.say("note: the workflows of %s are run once the app says x-maru: {ci: github}", workflow.Folder(true))
		}
		if !v.byDefault(ctx, workflow.Folder(github), selection) {
			return nil
		}
		v.check.Build()
	} else if len(selection.Workflows) == 0 {
		v.say("no workflow is for a push to %s: nothing is tested before the deploy", v.check.Run.Branch)
		return nil
	}
	return v.runSelected(ctx, selection)
}

// byDefault tells what becomes of a commit without workflows, and whether its tests can be run. That an image is
// out of reach says nothing of the commit, and nobody asked for it.
func (v *verification) byDefault(ctx context.Context, folder string, selection pipeline.Selection) bool {
	switch {
	case len(selection.Workflows) == 0 && len(selection.Untested) > 0:
		v.say("no workflow in %s, and no tests of %s: nothing is tested before the deploy", folder, strings.Join(selection.Untested, ", "))
		return false
	case len(selection.Workflows) == 0:
		v.say("no workflow in %s: nothing is tested before the deploy", folder)
		return false
	}
	v.say("no workflow in %s: the tests of %s are run (x-maru: {ci: none} leaves that out)", folder, strings.Join(selection.Found, ", "))
	var images []string
	for _, j := range selection.Workflows[0].Jobs {
		images = append(images, j.Container.Image.Source())
	}
	if err := v.machine.Fetch(ctx, images, func(line string) { v.say("%s", line) }); err != nil {
		v.say("warning: the tests are not run: %s", err)
		return false
	}
	return true
}

func (v *verification) runSelected(ctx context.Context, selection pipeline.Selection) error {
	if len(v.check.Tests.Kept) > 0 {
		v.say("jobs that succeeded before are not run again")
	}
	v.artifacts.Sweep(artifactsFor)
	var requests []pipeline.Request
	supersedable := true
	for _, w := range selection.Workflows {
		req := v.request(selection.Project, w)
		supersedable = supersedable && req.CancelsInProgress()
		requests = append(requests, req)
	}
	if supersedable {
		v.check.Supersedable()
	}
	var failed []string
	var twice error
	conclusion, err := v.runAll(ctx, requests, func(e maru.RunEvent) {
		switch {
		case e.Kind == maru.JobEnded && e.Conclusion == maru.Failure:
			failed = append(failed, e.Job)
		case e.Kind == maru.JobEnded && e.Conclusion == maru.Success:
			v.check.Ended(e.Workflow, e.Job, run.JobResult{Outputs: e.Outputs, Images: e.Images})
			twice = errors.Join(twice, v.take(e))
		}
		for _, text := range runEventLines(e) {
			v.tell(maru.RunLogLine{Time: e.Time, Service: e.Job, Output: e.Kind == maru.RunLine, Text: text})
		}
	})
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
	case twice != nil:
		return twice
	case conclusion == maru.Success || conclusion == maru.Skipped:
		for _, req := range requests {
			_ = v.artifacts.Remove(req.ID) // they were for the run's own jobs
		}
		return nil
	case len(failed) > 0:
		slices.Sort(failed)
		return maru.WithHint(maru.Errorf(maru.Invalid, "the tests failed: job %s", strings.Join(slices.Compact(failed), ", ")),
			"nothing was deployed; correct it and push again, or maru runs retry")
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "the workflows ended with %s", conclusion), "nothing was deployed; see the run's log")
}

// take takes the images that a job hands over.
func (v *verification) take(e maru.RunEvent) error {
	if v.images == nil {
		v.images = map[string]string{}
	}
	for service, image := range e.Images {
		if before, ok := v.images[service]; ok && before != image {
			return maru.Errorf(maru.Invalid, "job %s hands over the image %s for %s, and another job %s", e.Job, image, service, before)
		}
		v.images[service] = image
	}
	return nil
}

// request is what the run of one workflow is asked for by. What goes on after a restart, or is a retry, has the
// same ID.
func (v *verification) request(project *workflow.Project, w *workflow.Workflow) pipeline.Request {
	r, tests := v.check.Run, v.check.Tests
	sum := sha256.Sum256([]byte(r.Scope.Project + "\x00" + w.Path))
	req := pipeline.Request{
		ID:     fmt.Sprintf("%s-%s-%d-%s", r.Scope.App, r.Scope.Environment, tests.Origin, hex.EncodeToString(sum[:4])),
		Number: tests.Origin, Attempt: tests.Attempt, Project: project, Workflow: w, Source: pipeline.Folder(v.check.Folder),
		Event: pipeline.Event{
			Name: workflow.Push, Ref: "refs/heads/" + r.Branch, SHA: r.Commit, Actor: r.By, DefaultBranch: v.check.DefaultBranch, Message: r.Message,
			Repository: r.Scope.Project + "/" + r.Scope.App,
		},
		Vars: v.vars, Trusted: v.check.Protected, Secrets: map[string]string{}, Kept: map[string]schedule.Result{},
	}
	for name, value := range v.secrets {
		req.Secrets[name] = string(value)
	}
	for job, result := range tests.Kept[w.Path] {
		req.Kept[job] = schedule.Result{Conclusion: maru.Success, Outputs: result.Outputs, Images: result.Images}
	}
	return req
}
