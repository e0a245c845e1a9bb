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
	"github.com/marucloud/maru/delivery/build"
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
	builds    string        // folder of the contexts of images that jobs build
	swept     chan struct{} // closed when nothing is left of the jobs of an earlier process
}

func newPipelines(folder string, labels runner.Labels, builder *build.Client, parts container.Parts) *pipelines {
	p := &pipelines{
		machine: container.New(parts, container.Config{}), artifacts: &keep.Artifacts{Dir: filepath.Join(folder, "artifacts")},
		cache: &keep.Cache{Dir: filepath.Join(folder, "cache")}, builds: filepath.Join(folder, "builds"), swept: make(chan struct{}),
	}
	p.pipeline = pipeline.New(&runner.Runner{
		Machine: p.machine, Labels: labels, Toolchains: runner.DefaultToolchains(),
		Builder: jobBuilds{builder, p.builds}, Cache: p.cache, Artifacts: p.artifacts,
	}, 0)
	return p
}

// sweep removes what is left of the jobs of a process that died. The engine may still be away.
func (p *pipelines) sweep(ctx context.Context) error {
	p.cache.Sweep()
	_ = os.RemoveAll(p.builds)
	p.artifacts.Sweep(artifactsFor)
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
	selection, err := pipeline.Select(root.FS(), pipeline.Choice{GitHub: req.GitHub, Event: event, Names: req.Workflows})
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
	var requests []pipeline.Request
	for _, w := range selection.Workflows {
		requests = append(requests, request(req, selection.Project, w))
	}
	defer func() {
		for _, r := range requests {
			_ = p.artifacts.Remove(r.ID) // they were for the run's own jobs
		}
	}()
	_, err = p.runAll(ctx, requests, tell)
	return err
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

// runAll runs workflows beside each other. It gives success if all of them do.
func (p *pipelines) runAll(ctx context.Context, requests []pipeline.Request, tell func(maru.RunEvent)) (maru.Conclusion, error) {
	select {
	case <-p.swept:
	case <-ctx.Done():
		return "", maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
	}
	var mu sync.Mutex
	all := maru.Success
	var runs errgroup.Group
	for _, req := range requests {
		runs.Go(func() error {
			conclusion, err := p.pipeline.Run(ctx, req, func(e maru.RunEvent) {
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

// request is what a run of a workflow is asked for by.
func request(req server.RunRequest, project *workflow.Project, w *workflow.Workflow) pipeline.Request {
	return pipeline.Request{
		ID: "run-" + strings.ToLower(rand.Text()[:10]), Project: project, Workflow: w, Source: pipeline.Folder(req.Folder), Inputs: req.Inputs,
		Event: pipeline.Event{
			Name: orElse(req.Event, workflow.Push), Ref: req.Ref, SHA: req.SHA, Base: req.Base, Actor: req.By, DefaultBranch: req.DefaultBranch, Message: req.Message,
			Repository: fmt.Sprintf("%s/%s", req.Scope.Project, orElse(req.Scope.App, "app")),
		},
	}
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
