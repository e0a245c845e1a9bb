package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/build"
	"github.com/marucloud/maru/internal/backup"
	"github.com/marucloud/maru/internal/supervisor"
	"github.com/marucloud/maru/server"
)

// builder gives the server the builder in its own words.
type builder struct{ client *build.Client }

func (b builder) Build(ctx context.Context, r server.BuildRequest, progress func(server.BuildProgress)) (maru.Image, error) {
	request := build.Request{Name: r.Name, Build: r.Build, Secrets: r.Secrets, Volumes: r.Volumes, Credentials: map[string]build.Credentials{}}
	for host, c := range r.Registries {
		request.Credentials[host] = build.Credentials(c)
	}
	return b.client.Build(ctx, request, func(e build.Event) {
		if progress != nil {
			status := string(e.Status)
			if e.Status == build.StepFailed {
				status = "failed"
			}
			progress(server.BuildProgress{Step: e.Name, Status: status, Log: e.Log})
		}
	})
}

// processStatus asks the supervisor, or systemd, how the processes are, and the engine what it goes
// without.
type processStatus struct {
	supervisor supervisor.Client
	engine     maru.Constrained
}

func (p processStatus) Processes(ctx context.Context) ([]server.Process, error) {
	all, err := p.supervisor.Status(ctx)
	if maru.KindOf(err) == maru.Unavailable {
		all, err = unitStatus(ctx)
	}
	if err != nil {
		return nil, err
	}
	var processes []server.Process
	for _, one := range all {
		process := server.Process{Name: one.Name, PID: one.PID, Since: one.Since, Version: one.Version, State: "running"}
		switch {
		case one.PID == 0 && one.Name == "builder":
			process.State = "idle"
		case one.PID == 0:
			process.State = "away"
		case !one.Ready:
			process.State = "starting"
		}
		if process.Version == "" && sameProgram(one.PID) {
			process.Version = version
		}
		if one.Restarts > 0 {
			process.Message = "restarted " + maru.Itoa(one.Restarts) + " times"
		}
		if one.Name == "runtime" && one.Ready {
			process.Message = p.addConstraints(ctx, process.Message)
		}
		processes = append(processes, process)
	}
	return processes, nil
}

// addConstraints says what the engine goes without. One that can't be asked just now has other troubles,
// which show elsewhere.
func (p processStatus) addConstraints(ctx context.Context, message string) string {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Second, errors.New("the runtime does not answer"))
	defer cancel()
	all, err := p.engine.Constraints(ctx)
	if err != nil {
		return message
	}
	if message != "" {
		all = append([]string{message}, all...)
	}
	return strings.Join(all, "; ")
}

// sameProgram tells whether a process runs the very program that this one runs.
func sameProgram(pid int) bool {
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	own, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(theirs, own)
}

// backups gives the server the backups in its own words.
type backups struct{ *backup.Backups }

func (b backups) Restore(ctx context.Context, r io.Reader, passphrase string) (server.Restored, error) {
	restored, err := b.Backups.Restore(ctx, r, passphrase)
	return server.Restored(restored), err
}

// jobImages keeps what people pushed and what deploys built from jobs: by its address the registry asks whose the job is.
type jobImages struct{ imageStore }

type imageStore interface{ maru.Images }

func (j jobImages) Image(ctx context.Context, reference string) (maru.Image, error) {
	if inStore(reference) {
		return maru.Image{}, maru.WithHint(maru.Errorf(maru.Denied, "image %s is an app's", reference), "push it, and name it by the registry's address, with credentials")
	}
	image, err := j.imageStore.Image(ctx, reference)
	if err == nil && inStore(image.Reference) {
		// Its digest is what it was found by. Whoever may have it elsewhere pulls it.
		return maru.Image{}, maru.Errorf(maru.NotFound, "image %s is not here", reference)
	}
	return image, err
}

// inStore tells whether a reference is the engine's own name for what was pushed or deployed.
func inStore(reference string) bool {
	return strings.HasPrefix(reference, maru.RegistryHost+"/") || strings.HasPrefix(reference, server.BuiltImages)
}
