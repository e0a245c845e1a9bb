package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
	"github.com/marucloud/maru/internal/watch"
)

const (
	devStopTime = 15 * time.Second       // for the server to take note that the app is to stop
	devRetry    = 500 * time.Millisecond // before a server that went away is asked again
)

type devOptions struct {
	keep, test, publish bool
	domain              string
}

func (s *shell) devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use: "dev [SERVICE…]", Short: "Run the app of the compose file here while you work on it",
		Long: `Dev runs the app in an environment of your own, shows what all its services write, and follows what you
save: as develop.watch in the compose file says, else by building a service anew when its build context
changes. A build that fails is told, and what ran before goes on. ^C stops the app; its volumes stay.

The environment is dev-USER unless --env names another. Nothing of it meets production: a route's host
becomes one below dev-USER.localhost, and published ports become free ones.`,
		Example: `  maru dev
  maru dev web --test
  maru dev --keep -o json
  maru dev --context work --domain alice.dev.example.com`,
		ValidArgsFunction: s.completeFileServices,
		RunE: func(c *cobra.Command, args []string) error {
			if err := s.devEnvironment(); err != nil {
				return err
			}
			d, err := s.newDev(c.Context(), o, args)
			if err != nil {
				return err
			}
			return d.run(c.Context())
		},
	}
	c.Flags().BoolVar(&o.keep, "keep", false, "leave the app running at the end")
	c.Flags().BoolVar(&o.test, "test", false, "run the tests of a service's language when its source changes")
	c.Flags().BoolVar(&o.publish, "publish", false, "publish ports under the file's numbers, not under free ones")
	c.Flags().StringVar(&o.domain, "domain", "", "where the routes' hosts are (default \"ENVIRONMENT.localhost\")")
	_ = c.RegisterFlagCompletionFunc("domain", cobra.NoFileCompletions)
	return c
}

// devEnvironment chooses the environment of who works here.
func (s *shell) devEnvironment() error {
	if s.environment == maru.DefaultEnvironment {
		return misuse{maru.WithHint(fmt.Errorf("maru dev does not work in %s", s.environment), "leave --env out, or name another environment")}
	}
	if s.environment == "" {
		s.environment = devName(s.Getenv)
	}
	return nil
}

// devName gives the environment of the person at this terminal, also behind sudo.
func devName(getenv func(string) string) string {
	var name strings.Builder
	for _, variable := range []string{"SUDO_USER", "USER", "LOGNAME", "USERNAME"} {
		for _, r := range strings.ToLower(getenv(variable)) {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				name.WriteRune(r)
			}
		}
		if name.Len() > 0 {
			return "dev-" + name.String()[:min(name.Len(), 40)]
		}
	}
	return "dev"
}

// dev is one run of maru dev. What changes while it runs belongs to the goroutine of loop, but for what
// says otherwise.
type dev struct {
	*shell
	*client.Client
	options  devOptions
	view     *devView
	services []string // asked for; empty: all
	scope    *maruv1.Scope

	loaded  compose.Result
	rules   []*devRule
	watcher *watch.Watcher
	told    map[string]bool // warnings
	jobs    errgroup.Group  // syncs and tests

	changes   chan []string
	deployed  chan error
	observed  chan *maruv1.AppStatus
	deploying bool
	complete  bool            // all services were deployed once
	again     map[string]bool // services to deploy after the present deploy; "": all
	status    *maruv1.AppStatus
	changed   map[*devRule]map[string]bool // what was saved since the beginning, of rules that sync
	seen      map[string]bool              // instances, in each attempt, that have that
	busy      map[string]*sync.Mutex       // by service: one sync at a time
	tests     devTests
}

func (s *shell) newDev(ctx context.Context, o devOptions, services []string) (*dev, error) {
	connected, err := s.connect()
	if err != nil {
		return nil, err
	}
	if o.domain == "" {
		o.domain = s.environment + ".localhost"
	}
	d := &dev{shell: s, Client: connected, options: o, services: services, told: map[string]bool{},
		changes: make(chan []string), deployed: make(chan error), observed: make(chan *maruv1.AppStatus),
		again: map[string]bool{}, changed: map[*devRule]map[string]bool{}, seen: map[string]bool{}, busy: map[string]*sync.Mutex{}}
	loaded, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range services {
		if _, ok := loaded.App.Services[name]; !ok {
			return nil, misuse{maru.WithHint(maru.Errorf(maru.NotFound, "the file has no service %q", name),
				fmt.Sprintf("it has %v", slices.Sorted(maps.Keys(loaded.App.Services))))}
		}
	}
	d.scope = s.place()
	d.scope.App = loaded.App.Name
	d.view = newDevView(s, slices.Sorted(maps.Keys(loaded.App.Services)))
	d.tests.view = d.view
	return d, d.take(loaded)
}

// take makes the file's services and rules those that are followed.
func (d *dev) take(loaded compose.Result) error {
	for _, w := range loaded.Warnings {
		if text := w.String(); !d.told[text] {
			d.told[text] = true
			d.view.warn(text, w.Hint)
		}
	}
	rules, err := devRules(loaded, d.services)
	if err != nil {
		return err
	}
	d.loaded, d.rules = loaded, rules
	return nil
}

// run works until ctx ends, then stops the app.
func (d *dev) run(ctx context.Context) error {
	d.view.say("", "app %s in %s; ^C ends", d.scope.App, d.scope.Environment)
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	group.Go(func() error { return d.readLogs(working) })
	group.Go(func() error { return d.observe(working) })
	group.Go(func() error { return d.loop(working) })
	err := group.Wait()
	_ = d.jobs.Wait() // each told its own errors
	d.tests.wait()
	if ctx.Err() == nil && err != nil {
		return errors.Join(err, d.stop(ctx))
	}
	return d.stop(ctx)
}

// stop leaves no more of the app than a next time needs.
func (d *dev) stop(ctx context.Context) error {
	if d.options.keep {
		d.view.say("", "%s goes on; 'maru rm --env %s --app %s' removes it", d.scope.App, d.scope.Environment, d.scope.App)
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), devStopTime, maru.Errorf(maru.Unavailable, "the server does not answer"))
	defer cancel()
	_, err := d.Apps.Stop(ctx, &maruv1.StopRequest{Scope: d.scope, Services: d.services})
	if err != nil && maru.KindOf(err) != maru.NotFound { // nothing was ever deployed
		return err
	}
	d.view.say("", "%s is stopped; its volumes are kept", d.scope.App)
	return nil
}

func (d *dev) loop(ctx context.Context) error {
	if err := d.rewatch(ctx); err != nil {
		return err
	}
	defer func() { _ = d.watcher.Close() }() // nothing is read from it any more
	d.deploy(ctx, "")
	for {
		select {
		case <-ctx.Done():
			if d.deploying {
				<-d.deployed //nolint:errcheck // it ends with ctx
			}
			return nil
		case paths := <-d.changes:
			if err := d.follow(ctx, paths); err != nil {
				return err
			}
		case d.status = <-d.observed:
			d.catchUp(ctx)
		case err := <-d.deployed:
			d.deploying = false
			if err == nil {
				d.complete = true
			} else if ctx.Err() == nil {
				d.view.fail(err)
			}
			d.deployNext(ctx)
		}
	}
}

// rewatch watches what the present file says, and the file.
func (d *dev) rewatch(ctx context.Context) error {
	var roots []watch.Root
	for _, r := range d.rules {
		roots = append(roots, watch.Root{Path: r.Path, Skip: r.skips})
	}
	for _, file := range d.loaded.Files {
		roots = append(roots, watch.Root{Path: file})
	}
	watcher, err := watch.New(roots)
	if err != nil {
		return err
	}
	if d.watcher != nil {
		_ = d.watcher.Close() // its successor watches
	}
	d.watcher = watcher
	d.jobs.Go(func() error {
		err := watcher.Run(ctx, func(paths []string) {
			select {
			case d.changes <- paths:
			case <-ctx.Done():
			}
		})
		if err != nil {
			d.view.fail(err)
		}
		return nil
	})
	return nil
}

// follow does what the rules say of changes.
func (d *dev) follow(ctx context.Context, paths []string) error {
	if slices.ContainsFunc(paths, func(p string) bool { return slices.Contains(d.loaded.Files, p) }) {
		return d.reload(ctx)
	}
	tested := map[string]bool{}
	for _, r := range d.rules {
		matched := slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return !r.matches(p) })
		if len(matched) == 0 {
			continue
		}
		d.view.changed(r, matched)
		if d.options.test && !tested[r.service] {
			tested[r.service] = true
			d.tests.run(ctx, r.service, d.loaded.App.Services[r.service].Build)
		}
		if r.Action == compose.Rebuild {
			d.deploy(ctx, r.service)
			continue
		}
		d.remember(r, matched)
		d.apply(ctx, r, matched, d.instances(r.service))
	}
	return nil
}

// reload takes the file as it is now. One with faults changes nothing.
func (d *dev) reload(ctx context.Context) error {
	loaded, err := d.load(ctx)
	if err != nil {
		d.view.fail(err)
		return nil
	}
	if loaded.App.Name != d.scope.App {
		d.view.fail(maru.WithHint(maru.Errorf(maru.Conflict, "the app is named %s now, and was %s", loaded.App.Name, d.scope.App), "end maru dev and start it again"))
		return nil
	}
	d.view.say("", "the compose file changed")
	if err := d.take(loaded); err != nil {
		return err
	}
	d.changed = map[*devRule]map[string]bool{}
	if err := d.rewatch(ctx); err != nil {
		return err
	}
	d.deploy(ctx, "")
	return nil
}

// deploy deploys a service, or all for "", now or after the deploy that goes on.
func (d *dev) deploy(ctx context.Context, service string) {
	d.again[service] = true
	d.deployNext(ctx)
}

func (d *dev) deployNext(ctx context.Context) {
	if d.deploying || len(d.again) == 0 || ctx.Err() != nil {
		return
	}
	services := slices.Sorted(maps.Keys(d.again))
	if d.again[""] || !d.complete {
		services = d.services
	}
	d.again, d.deploying = map[string]bool{}, true
	loaded := d.loaded
	loaded.App = devApp(loaded.App, d.rules, d.options)
	go func() {
		err := d.rollOut(ctx, loaded, services)
		d.deployed <- err
	}()
}

// rollOut deploys and shows how it goes.
func (d *dev) rollOut(ctx context.Context, loaded compose.Result, services []string) error {
	prepared, err := d.prepareLoaded(ctx, loaded, services)
	if err != nil {
		return err
	}
	prepared.request.Message = "maru dev"
	stream, err := d.Apps.Deploy(ctx, prepared.request)
	if err != nil {
		return err
	}
	defer stream.Close()
	progress := devProgress{view: d.view, states: map[string]string{}, logs: map[string][]string{}}
	for stream.Receive() {
		progress.show(stream.Msg())
	}
	if stream.Err() != nil {
		progress.failed()
	}
	return stream.Err()
}

// readLogs shows what instances write from now on.
func (d *dev) readLogs(ctx context.Context) error {
	request := &maruv1.LogsRequest{Scope: d.scope, Services: d.services, Tail: -1, Follow: true, Since: timestamppb.Now()}
	return followLogs(ctx, d.Client, request, true, d.view.log)
}

// observe tells of the app's state until ctx ends, whatever becomes of the server meanwhile.
func (d *dev) observe(ctx context.Context) error {
	for {
		if stream, err := d.Apps.Watch(ctx, &maruv1.WatchRequest{Scope: d.scope}); err == nil {
			for stream.Receive() {
				select {
				case d.observed <- stream.Msg().App:
				case <-ctx.Done():
				}
			}
			_ = stream.Close() // it is asked for again
		}
		select {
		case <-time.After(devRetry):
		case <-ctx.Done():
			return nil
		}
	}
}
