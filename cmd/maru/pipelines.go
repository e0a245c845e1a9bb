package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline"
	"github.com/marucloud/maru/delivery/pipeline/keep"
	"github.com/marucloud/maru/delivery/pipeline/machine/container"
	"github.com/marucloud/maru/delivery/pipeline/runner"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
	"github.com/marucloud/maru/engine/remote"
	"github.com/marucloud/maru/server"
)

// appEngine is the engine as the control loops see it: without the workloads of jobs, which they did not
// ask for and would remove.
type appEngine struct{ *remote.Client }

// Watch implements [maru.Engine].
func (e appEngine) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return func(yield func(maru.Observation, error) bool) {
		for o, err := range e.Client.Watch(ctx) {
			if err == nil && o.Workload.Project == maru.JobsProject {
				continue
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// pipelines gives the server the pipeline in its own words.
type pipelines struct {
	machine   *container.Machine
	artifacts *keep.Artifacts
	cache     *keep.Cache
	pipeline  *pipeline.Pipeline
	swept     chan struct{} // closed when nothing is left of the jobs of an earlier process
}

func newPipelines(folder string, labels runner.Labels, parts container.Parts) *pipelines {
	p := &pipelines{
		machine: container.New(parts, container.Config{}), artifacts: &keep.Artifacts{Dir: filepath.Join(folder, "artifacts")},
		cache: &keep.Cache{Dir: filepath.Join(folder, "cache")}, swept: make(chan struct{}),
	}
	p.pipeline = pipeline.New(&runner.Runner{
		Machine: p.machine, Labels: labels, Toolchains: runner.DefaultToolchains(), Cache: p.cache, Artifacts: p.artifacts,
	}, 0)
	return p
}

// sweep removes what is left of the jobs of a process that died. The engine may still be away.
func (p *pipelines) sweep(ctx context.Context) error {
	p.cache.Sweep()
	for ctx.Err() == nil {
		if err := p.machine.Sweep(ctx); err == nil {
			close(p.swept)
			return nil
		}
		pause(ctx, again)
	}
	return nil
}

// Run implements [server.Pipelines].
func (p *pipelines) Run(ctx context.Context, req server.RunRequest, tell func(maru.RunEvent)) error {
	root, err := os.OpenRoot(req.Folder)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "read the source tree: %w", err)
	}
	defer root.Close()
	event := workflow.Event{Name: req.Event, Ref: req.Ref, Base: req.Base}
	if event.Name == "" {
		event.Name = workflow.Push
	}
	selection, err := pipeline.Select(root.FS(), req.GitHub, event, req.Workflows)
	if err != nil {
		return err
	}
	for _, w := range selection.Warnings {
		text := w.String()
		if w.Hint != "" {
			text += " (" + w.Hint + ")"
		}
		tell(maru.RunEvent{Kind: maru.RunWarning, Time: time.Now().UTC(), Workflow: w.File, File: w.File, Line: w.Line, Column: w.Column, Text: text})
	}
	if len(selection.Workflows) == 0 {
		return maru.WithHint(maru.Errorf(maru.NotFound, "no workflow is for %s of %s", event.Name, req.Ref), "name the one to run")
	}
	_, err = p.runAll(ctx, req, selection, tell)
	return err
}

// verify runs the workflows that a push starts, where the tree has any, and tells of it in lines. It gives an
// error when one does not succeed.
func (p *pipelines) verify(ctx context.Context, req server.RunRequest, tell func(maru.RunLogLine)) error {
	say := func(text string) { tell(maru.RunLogLine{Time: time.Now().UTC(), Text: text}) }
	root, err := os.OpenRoot(req.Folder)
	if err != nil {
		return maru.Errorf(maru.Unavailable, "read the source tree: %w", err)
	}
	defer root.Close()
	selection, err := pipeline.Select(root.FS(), req.GitHub, workflow.Event{Name: req.Event, Ref: req.Ref}, nil)
	switch {
	case maru.KindOf(err) == maru.NotFound, err == nil && selection.Default != "":
		say("no workflow in " + workflow.Folder(req.GitHub) + ": nothing is tested before the deploy")
		return nil
	case err != nil:
		return err
	case len(selection.Workflows) == 0:
		say("no workflow is for a push to this branch: nothing is tested before the deploy")
		return nil
	}
	for _, w := range selection.Warnings {
		say("warning: " + w.String())
	}
	var failed []string
	conclusion, err := p.runAll(ctx, req, selection, func(e maru.RunEvent) {
		if e.Kind == maru.JobEnded && e.Conclusion == maru.Failure {
			failed = append(failed, e.Job)
		}
		for _, text := range runEventLines(e) {
			tell(maru.RunLogLine{Time: e.Time, Service: e.Job, Output: e.Kind == maru.RunLine, Text: text})
		}
	})
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
	case conclusion != maru.Success && len(failed) > 0:
		return maru.WithHint(maru.Errorf(maru.Invalid, "the tests failed: job %s", strings.Join(failed, ", ")), "nothing was deployed; correct it and push again")
	case conclusion != maru.Success:
		return maru.WithHint(maru.Errorf(maru.Invalid, "the workflows ended with %s", conclusion), "nothing was deployed; see the run's log")
	}
	return nil
}

// runEventLines says in lines what a person wants to know of an event.
func runEventLines(e maru.RunEvent) []string {
	switch e.Kind {
	case maru.JobStarted:
		return []string{"job started"}
	case maru.StepStarted:
		return []string{"step " + e.Name}
	case maru.RunLine:
		return []string{e.Text}
	case maru.RunAnnotation:
		text := e.Level + ": " + e.Text
		if e.File != "" {
			text = fmt.Sprintf("%s:%d: %s", e.File, e.Line, text)
		}
		return []string{text}
	case maru.RunTests:
		lines := []string{fmt.Sprintf("tests: %d passed, %d failed, %d skipped", e.Tests.Passed, e.Tests.Failed, e.Tests.Skipped)}
		for _, t := range e.Tests.Tests {
			at := ""
			if t.File != "" {
				at = fmt.Sprintf(" at %s:%d", t.File, t.Line)
			}
			lines = append(lines, "failed: "+strings.TrimSpace(t.Suite+" "+t.Name)+at)
		}
		return lines
	case maru.JobEnded:
		text := "job ended: " + string(e.Conclusion)
		if e.Text != "" {
			text += ": " + e.Text
		}
		return []string{text}
	}
	return nil
}

// runAll runs the workflows of a selection beside each other. It gives success if all of them do.
func (p *pipelines) runAll(ctx context.Context, req server.RunRequest, selection pipeline.Selection, tell func(maru.RunEvent)) (maru.Conclusion, error) {
	select {
	case <-p.swept:
	case <-ctx.Done():
		return "", maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
	}
	var mu sync.Mutex
	all := maru.Success
	var runs errgroup.Group
	for _, w := range selection.Workflows {
		runs.Go(func() error {
			conclusion, err := p.run(ctx, req, selection.Project, w, func(e maru.RunEvent) {
				mu.Lock()
				defer mu.Unlock()
				tell(e)
			})
			mu.Lock()
			defer mu.Unlock()
			if conclusion != maru.Success && conclusion != maru.Skipped && all != maru.Failure {
				all = conclusion
			}
			return err
		})
	}
	err := runs.Wait()
	return all, err
}

func (p *pipelines) run(ctx context.Context, req server.RunRequest, project *workflow.Project, w *workflow.Workflow, tell func(maru.RunEvent)) (maru.Conclusion, error) {
	id := "run-" + strings.ToLower(rand.Text()[:10])
	defer func() { _ = p.artifacts.Remove(id) }() // they were for the run's own jobs
	return p.pipeline.Run(ctx, pipeline.Request{
		ID: id, Project: project, Workflow: w, Source: pipeline.Folder(req.Folder), Inputs: req.Inputs,
		Event: pipeline.Event{
			Name: orElse(req.Event, workflow.Push), Ref: req.Ref, SHA: req.SHA, Base: req.Base, Actor: req.By, DefaultBranch: req.DefaultBranch, Message: req.Message,
			Repository: fmt.Sprintf("%s/%s", req.Scope.Project, orElse(req.Scope.App, "app")),
		},
	}, tell)
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// jobLabels are the images for the labels of runs-on: those that the flags give, over the usual ones.
func (p *platform) jobLabels() (runner.Labels, error) {
	labels := maps.Clone(runner.DefaultLabels())
	for _, pair := range p.jobImages {
		label, image, ok := strings.Cut(pair, "=")
		if !ok || image == "" {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "--job-image %q is not LABEL=IMAGE", pair), "such as ubuntu-latest=buildpack-deps:noble")
		}
		labels[label] = image
	}
	return labels, nil
}
