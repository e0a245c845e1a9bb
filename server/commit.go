package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/internal/source"
)

// Commit is an app as a commit has it, laid out on this machine.
type Commit struct {
	Scope        maru.Scope
	Origin       maru.Origin
	Again        bool   // also what the judge had taken back
	Folder       string // absolute; its files may be anybody's
	App          maru.App
	Secrets      map[string][]byte            // values that came with the file, by key in App.Secrets
	BuildSecrets map[string]map[string][]byte // by service and ID
	By           string
	Message      string
	Of           string            // of a preview: the environments entry whose values, configs and secrets it sees beside its own
	Seed         bool              // services that have a seed run it, once in the environment
	Images       map[string]string // by service: what runs, in the place of what the file says; nil: as it says
}

// viaRun is how somebody comes whose push is carried out.
const viaRun = "run"

// Values gives the values for ${VAR} that an app sees. Those of an environment that is of an entry go before that
// one's; of "": there is none.
func (s *Server) Values(ctx context.Context, scope maru.Scope, of string) (map[string]string, error) {
	values := map[string]string{}
	for _, environment := range []string{of, scope.Environment} {
		if environment == "" {
			continue
		}
		scope.Environment = environment
		res, err := envService{s}.List(ctx, &maruv1.EnvServiceListRequest{Scope: scopeProto(scope), Effective: true})
		if err != nil {
			return nil, err
		}
		maps.Copy(values, res.Values)
	}
	return values, nil
}

// WorkflowVars gives the variables that the workflows of an app see.
func (s *Server) WorkflowVars(ctx context.Context, scope maru.Scope) (map[string]string, error) {
	res, err := envService{s}.List(ctx, &maruv1.EnvServiceListRequest{Scope: scopeProto(scope), Effective: true, Ci: true})
	return res.GetValues(), err
}

// ReleaseCommit does what a deploy does up to where its rollout begins, which is on the disk then. It gives the
// number of the rollout, of one to the same state that is under way, or 0: nothing changed.
func (s *Server) ReleaseCommit(ctx context.Context, c Commit, tell func(maru.RunLogLine)) (rollout int, err error) {
	ctx = asPusher(ctx, c)
	request, err := s.requestOf(ctx, c)
	if err != nil {
		return 0, err
	}
	_, r, changed, err := s.release(ctx, request, c, s.lineReport(tell))
	if err != nil || !changed && r.Phase.Final() {
		return 0, err
	}
	return r.Number, nil
}

// BuildCommit makes the images of a commit that is not released yet, so that they are there when it is. Its error says
// nothing of the commit: to release it does the same again.
func (s *Server) BuildCommit(ctx context.Context, c Commit, tell func(maru.RunLogLine)) error {
	ctx = asPusher(ctx, c)
	request, err := s.requestOf(ctx, c)
	if err != nil {
		return err
	}
	s.unreleased.RLock()
	defer s.unreleased.RUnlock()
	_, services, err := s.admitApp(ctx, c.Scope, request)
	if err != nil {
		return err
	}
	_, err = newImageWork(s, c.Scope, request, s.lineReport(tell)).resolve(ctx, services)
	return err
}

// asPusher has who pushed the commit be the caller.
func asPusher(ctx context.Context, c Commit) context.Context {
	return context.WithValue(ctx, callerKey{}, Caller{Name: c.By, Role: maru.RoleDeploy, Scope: c.Scope, Method: viaRun})
}

// requestOf gives what a client would have sent to deploy the commit.
func (s *Server) requestOf(ctx context.Context, c Commit) (*maruv1.DeployRequest, error) {
	request := &maruv1.DeployRequest{Scope: scopeProto(c.Scope), Secrets: c.Secrets, Message: c.Message, Sources: map[string]string{}, BuildSecrets: map[string]*maruv1.BuildSecrets{}}
	for service, values := range c.BuildSecrets {
		request.BuildSecrets[service] = &maruv1.BuildSecrets{Values: values}
	}
	app := c.App
	if c.Images == nil {
		var err error
		if app, err = s.takeSources(ctx, c, request.Sources); err != nil {
			return nil, err
		}
	}
	request.App = structProto(app)
	return request, nil
}

// FollowRollout tells how a rollout goes until it ended well, else gives why not.
func (s *Server) FollowRollout(ctx context.Context, scope maru.Scope, number int, tell func(maru.RunLogLine)) error {
	rollout, err := s.rollout(ctx, scope, number)
	if err != nil {
		return err
	}
	return s.follow(ctx, rollout, s.lineReport(tell))
}

// takeSources keeps the content of all build contexts, and gives the app with names in their place that are
// the same for every commit.
func (s *Server) takeSources(ctx context.Context, c Commit, ids map[string]string) (maru.App, error) {
	app := c.App
	app.Services = maps.Clone(app.Services)
	take := func(folder, dockerfile string) (string, error) {
		if !filepath.IsAbs(folder) {
			return folder, nil
		}
		relative, err := filepath.Rel(c.Folder, folder)
		if err != nil || !filepath.IsLocal(relative) {
			return "", maru.Errorf(maru.Invalid, "the build context %s is not in the repository", folder)
		}
		name := path.Join("/", c.Scope.App+".git", filepath.ToSlash(relative))
		if _, known := ids[name]; !known {
			if ids[name], err = s.takeSource(ctx, c.Folder, folder, dockerfile); err != nil {
				return "", err
			}
		}
		return name, nil
	}
	for _, name := range slices.Sorted(maps.Keys(app.Services)) {
		service := app.Services[name]
		if service.Build == nil {
			continue
		}
		build := *service.Build
		var err error
		if build.Context, err = take(build.Context, build.Dockerfile); err != nil {
			return app, maru.Errorf(maru.KindOf(err), "service %s: %w", name, err)
		}
		build.Contexts = maps.Clone(build.Contexts)
		for key, folder := range build.Contexts {
			if build.Contexts[key], err = take(folder, ""); err != nil {
				return app, maru.Errorf(maru.KindOf(err), "service %s: %w", name, err)
			}
		}
		service.Build = &build
		app.Services[name] = service
	}
	return app, nil
}

// takeSource keeps the content of one build context.
func (s *Server) takeSource(ctx context.Context, root, folder, dockerfile string) (string, error) {
	for _, name := range []string{source.IgnoreFile, dockerfile + source.IgnoreFile} {
		if err := inside(root, filepath.Join(folder, name)); err != nil {
			return "", err
		}
	}
	manifest, err := source.Scan(ctx, folder, source.ScanOptions{Dockerfile: dockerfile})
	if err != nil {
		return "", err
	}
	id, missing, err := s.sources.Offer(manifest)
	if err != nil || len(missing) == 0 {
		return id, err
	}
	wanted := map[source.Digest]bool{}
	for _, digest := range missing {
		wanted[digest] = true
	}
	upload := s.sources.Upload()
	defer upload.Close()
	for _, e := range manifest {
		if !e.IsFile() || !wanted[e.Digest] {
			continue
		}
		delete(wanted, e.Digest)
		if err := upload.Next(e.Digest); err != nil {
			return "", err
		}
		if err := copyFile(upload.Write, filepath.Join(folder, filepath.FromSlash(e.Path))); err != nil {
			return "", err
		}
	}
	return id, upload.Done()
}

// inside tells whether a file that would be read by its name is below the folder, or not there.
func inside(root, file string) error {
	real, err := filepath.EvalSymlinks(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err != nil {
		return fmt.Errorf("read a build context: %w", err)
	}
	if relative, err := filepath.Rel(root, real); err != nil || !filepath.IsLocal(relative) {
		return maru.Errorf(maru.Invalid, "%s leads out of the repository", filepath.Base(file))
	}
	return nil
}

func copyFile(write func([]byte) error, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read a build context: %w", err)
	}
	defer file.Close()
	piece := make([]byte, 256<<10)
	for {
		n, err := file.Read(piece)
		if n > 0 {
			if err := write(piece[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a build context: %w", err)
		}
	}
}

// lineReport tells a deploy line by line: what changed of each service, once.
func (s *Server) lineReport(tell func(maru.RunLogLine)) *report {
	var mu sync.Mutex
	last := map[string]string{}
	say := func(service, text string) {
		mu.Lock()
		defer mu.Unlock()
		text = strings.TrimSpace(text)
		if last[service] == text {
			return
		}
		last[service] = text
		tell(maru.RunLogLine{Service: service, Text: text})
	}
	return &report{
		progress: func(p *maruv1.Progress) error {
			switch {
			case p.Log != "":
				tell(maru.RunLogLine{Service: p.Service, Output: true, Text: p.Log})
			case p.State == "running" && p.Step != "build", p.State == "running" && p.Message == "":
			case p.State == "running":
				say(p.Service, p.Message)
			case p.State == "skipped":
				say(p.Service, p.Step+": nothing to do")
			case p.State == "failed" && p.Step == "after":
				say(p.Service, p.Message+"; the release stays")
			case p.State == "failed":
				say(p.Service, p.Step+" failed")
			default:
				say(p.Service, p.Step+" "+p.State+" "+p.Message)
			}
			return nil
		},
		status: func(status *maruv1.RolloutStatus) error {
			for _, name := range slices.Sorted(maps.Keys(status.Rollout.GetServices())) {
				part := status.Rollout.Services[name]
				text := part.Phase
				if part.Reason != "" {
					text += ": " + part.Reason
				}
				say(name, text)
			}
			return nil
		},
		result: func(r *maruv1.DeployResult) error {
			for _, service := range r.Services {
				for _, address := range service.Addresses {
					tell(maru.RunLogLine{Service: service.Name, Text: address})
				}
			}
			tell(maru.RunLogLine{Text: fmt.Sprintf("rollout %d is serving", r.Rollout)})
			return nil
		},
	}
}
