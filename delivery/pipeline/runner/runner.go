// Package runner runs one job of a workflow: its container, its steps, and what they say through
// GitHub's workflow commands.
package runner

import (
	"context"
	"io"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/pipeline/expr"
	"github.com/marucloud/maru/delivery/pipeline/machine"
	"github.com/marucloud/maru/delivery/pipeline/schedule"
	"github.com/marucloud/maru/delivery/pipeline/workflow"
)

// Runner runs jobs. Its methods are safe for concurrent use.
type Runner struct {
	Machine machine.Machine
	Labels  Labels
	// Toolchains are the images for jobs that name none, have a label with its usual image, and use one of the
	// setup actions, by language, with %s for the version. Without one the label's image is taken.
	Toolchains map[string]string
	Builder    Builder   // nil: no images are built
	Cache      Cache     // nil: nothing is kept from run to run
	Artifacts  Artifacts // nil: nothing is kept of the run
	CPUs       float64   // of a job that says nothing; 0: the machine's default
	Memory     int64     // likewise, bytes
}

// Labels give the image for a label of runs-on. "" is for labels that are not there; without it those
// are refused.
type Labels map[string]string

// DefaultLabels are images for the labels that workflows use most: all have what C programs are built
// with, Git and Python.
func DefaultLabels() Labels {
	const noble, jammy = "docker.io/library/buildpack-deps:noble", "docker.io/library/buildpack-deps:jammy"
	return Labels{"ubuntu-latest": noble, "ubuntu-24.04": noble, "ubuntu-22.04": jammy, "self-hosted": noble, "linux": noble}
}

// DefaultToolchains are the official images of the languages that there are setup actions for.
func DefaultToolchains() map[string]string {
	return map[string]string{
		"go": "docker.io/library/golang:%s", "node": "docker.io/library/node:%s", "python": "docker.io/library/python:%s",
		"java": "docker.io/library/maven:3-eclipse-temurin-%s",
	}
}

// Cache keeps files from run to run. A key's content never changes.
type Cache interface {
	// Restore gives a tar stream of what is kept under the key, or else of the newest whose key begins
	// with one of the prefixes, in the first scope that has any, with its key; NotFound. Version is of
	// the paths: only what was kept with the same one counts.
	Restore(ctx context.Context, scopes []string, key string, prefixes []string, version string) (string, io.ReadCloser, error)
	// Save keeps a tar stream; Exists when the scope has the key, Exhausted when it is too large.
	Save(ctx context.Context, scope, key, version string, archive io.Reader) error
}

// Artifacts keep files of runs.
type Artifacts interface {
	// Put keeps a tar stream of regular files and gives its size and SHA-256; Exists when the name is
	// taken, unless it is to be overwritten, and Exhausted when it is too large.
	Put(ctx context.Context, run, name string, overwrite bool, archive io.Reader) (size int64, digest string, err error)
	// Get gives the tar stream; NotFound.
	Get(ctx context.Context, run, name string) (io.ReadCloser, error)
	// List gives the names, sorted.
	List(ctx context.Context, run string) ([]string, error)
}

// Builder builds images for jobs. It is safe for concurrent use.
type Builder interface {
	// Build makes an image of a context, a tar stream, and gives its reference by digest. Progress is called from one
	// goroutine at a time. Errors: Invalid when a step failed or the stream is none, Unavailable.
	Build(ctx context.Context, req BuildRequest, context io.Reader, progress func(line string)) (reference string, err error)
}

// BuildRequest says how an image is built.
type BuildRequest struct {
	Repository string // whose job it is: OWNER/NAME
	Dockerfile string // in the context
	Target     string
	Args       map[string]string
	Labels     map[string]string
	NoCache    bool
	Pull       bool
	Secrets    map[string][]byte
}

// Source gives the source tree of a run as a tar stream.
type Source interface {
	Archive(ctx context.Context, w io.Writer) error
}

// Task is one job with what it needs of its run.
type Task struct {
	Run         string // unique: names containers and artifacts
	Job         *schedule.Job
	Project     *workflow.Project
	Source      Source
	Event       []byte // the event's payload, JSON
	CacheScopes []string
	CacheScope  string // "": what the job makes is not kept
	Debug       bool
	Emit        func(maru.RunEvent)
}

// defaultTimeout is for jobs that say nothing.
const defaultTimeout = 360 * time.Minute

// afterCancel is how long steps may run that a cancelled job still has.
const afterCancel = 5 * time.Minute

// Run runs the job to its end. A receive from cancel cancels it: the step at work gets signals, and of
// the others those run whose condition holds. When ctx ends all is broken off.
func (r *Runner) Run(ctx context.Context, task Task, cancel <-chan string) schedule.Result {
	j := newJob(r, task)
	return j.run(ctx, cancel)
}

// imageFor gives the image for the labels of runs-on: that of the first label that has one. It was chosen
// when it is not the usual one of the label.
func (r *Runner) imageFor(v any) (image string, chosen bool, err error) {
	labels := []any{v}
	if a, ok := v.(*expr.Array); ok {
		labels = a.Items
	}
	for _, l := range labels {
		if image, ok := r.Labels[expr.String(l)]; ok {
			return image, image != DefaultLabels()[expr.String(l)], nil
		}
	}
	if image, ok := r.Labels[""]; ok {
		return image, true, nil
	}
	text, _ := expr.ToJSON(v)
	return "", false, maru.WithHint(maru.Errorf(maru.Invalid, "there is no image for runs-on: %s", text),
		"name an image in the job's container, or give the label one on the server")
}
