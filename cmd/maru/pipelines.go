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
	select {
	case <-p.swept:
	case <-ctx.Done():
		return maru.Errorf(maru.Interrupted, "%w", context.Cause(ctx))
	}
	var mu sync.Mutex
	serially := func(e maru.RunEvent) {
		mu.Lock()
		defer mu.Unlock()
		tell(e)
	}
	var runs errgroup.Group
	for _, w := range selection.Workflows {
		runs.Go(func() error { return p.run(ctx, req, event, selection.Project, w, serially) })
	}
	return runs.Wait()
}

func (p *pipelines) run(ctx context.Context, req server.RunRequest, event workflow.Event, project *workflow.Project, w *workflow.Workflow, tell func(maru.RunEvent)) error {
	id := "run-" + strings.ToLower(rand.Text()[:10])
	defer func() { _ = p.artifacts.Remove(id) }() // they were for the run's own jobs
	_, err := p.pipeline.Run(ctx, pipeline.Request{
		ID: id, Project: project, Workflow: w, Source: pipeline.Folder(req.Folder), Inputs: req.Inputs,
		Event: pipeline.Event{
			Name: event.Name, Ref: req.Ref, SHA: req.SHA, Base: req.Base, Actor: req.By, DefaultBranch: req.DefaultBranch, Message: req.Message,
			Repository: fmt.Sprintf("%s/%s", req.Scope.Project, orElse(req.Scope.App, "app")),
		},
	}, tell)
	return err
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
