package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) psCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "ps", Short: "List apps, and the instances of this one", Args: cobra.NoArgs,
		Long:    "Ps lists the instances of an app. With --all, or where none is meant, it lists the apps of the environment.",
		Example: "  maru ps\n  maru ps --all\n  maru ps --app shop -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			scope, err := s.scopeOrAll(c.Context())
			if err != nil {
				return err
			}
			if all || scope.App == "" {
				return s.listApps(c.Context())
			}
			status, err := connected.Apps.Status(c.Context(), &maruv1.StatusRequest{Scope: scope})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(status.App)
			}
			t := s.table("INSTANCE", "SERVICE", "RELEASE", "STATE", "ATTEMPT", "STARTED", "ADDRESS")
			for _, service := range status.App.Services {
				for _, i := range service.Instances {
					state := i.Phase
					if i.Ready {
						state = "ready"
					}
					t.row(i.Id, service.Name, i.Workload, state, fmt.Sprint(i.Attempt), ago(i.Started), i.AddressV4)
				}
			}
			return t.flush()
		}}
	c.Flags().BoolVarP(&all, "all", "a", false, "list the apps of the environment")
	return c
}

func (s *shell) listApps(ctx context.Context) error {
	connected, err := s.connect()
	if err != nil {
		return err
	}
	list, err := connected.Apps.List(ctx, &maruv1.ListRequest{Scope: s.place()})
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printMessage(list)
	}
	if len(list.Apps) == 0 {
		fmt.Fprintf(s.Stdout, "no apps in %s: deploy one with 'maru deploy'\n", s.place().Environment)
		return nil
	}
	t := s.table("APP", "STATE", "SERVICES", "READY", "ROLLOUT", "UPDATED", "ADDRESSES")
	for _, a := range list.Apps {
		t.row(a.Scope.App, a.State, fmt.Sprint(a.Services), fmt.Sprintf("%d/%d", a.Ready, a.Wanted), fmt.Sprint(a.Rollout), ago(a.Updated), strings.Join(a.Addresses, " "))
	}
	return t.flush()
}

func (s *shell) statusCommand() *cobra.Command {
	var platform bool
	c := &cobra.Command{Use: "status [SERVICE…]", Short: "Show how an app is, and what is wrong and why", ValidArgsFunction: s.completeServices,
		Long:    "Status tells of an app's services and instances. Where no app is meant, it lists the apps of the environment.",
		Example: "  maru status\n  maru status web\n  maru status --platform"}
	onApp := s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Status(ctx, &maruv1.StatusRequest{Scope: call.scope, Services: call.args})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response.App)
		}
		s.showStatus(response.App)
		return s.showPreview(ctx, call)
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if platform {
			return s.showPlatform(c.Context())
		}
		if len(args) == 0 {
			scope, err := s.scopeOrAll(c.Context())
			if err != nil {
				return err
			}
			if scope.App == "" {
				return s.listApps(c.Context())
			}
		}
		return onApp(c, args)
	}
	c.Flags().BoolVar(&platform, "platform", false, "show how Maru's own processes are")
	return c
}

func (s *shell) showPlatform(ctx context.Context) error {
	connected, err := s.connect()
	if err != nil {
		return err
	}
	health, err := connected.System.Health(ctx, &maruv1.HealthRequest{})
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printMessage(health)
	}
	t := s.table("PROCESS", "STATE", "PID", "SINCE", "VERSION", "")
	for _, p := range health.Processes {
		t.row(p.Name, p.State, pid(p.Pid), ago(p.Since), orDash(p.Version), p.Message)
	}
	return t.flush()
}

// pid is that of a process, if it runs.
func pid(number int64) string {
	if number == 0 {
		return "-"
	}
	return fmt.Sprint(number)
}

func (s *shell) showStatus(app *maruv1.AppStatus) {
	style := styles(s.Stdout)
	fmt.Fprintf(s.Stdout, "%s in %s: %s\n", style.bold(app.Scope.App), app.Scope.Environment, style.state(app.State))
	if r := app.Rollout; r != nil {
		line := fmt.Sprintf("rollout %d (%s by %s, %s): %s", r.Number, r.Cause, orDash(r.By), ago(r.Started), style.state(r.Phase))
		if r.Reason != "" {
			line += ": " + r.Reason
		}
		fmt.Fprintln(s.Stdout, line)
	}
	s.showGit(app.Git)
	for _, notice := range app.Notices {
		fmt.Fprintln(s.Stdout, "notify: "+notice)
	}
	for _, service := range app.Services {
		fmt.Fprintf(s.Stdout, "\n%s  %s  %d of %d ready  release %d  %s\n", style.bold(service.Name), style.state(service.State),
			service.Ready, service.Wanted, service.Release, style.dim(shortImage(service.Image)))
		if service.Message != "" {
			fmt.Fprintf(s.Stdout, "  %s\n", indent(service.Message))
		}
		if len(service.Serving) > 0 {
			fmt.Fprintf(s.Stdout, "  traffic by release: %s\n", shares(service.Serving))
		}
		for _, address := range service.Addresses {
			fmt.Fprintf(s.Stdout, "  %s\n", address)
		}
		for _, i := range service.Instances {
			s.showInstance(style, i)
		}
	}
}

// showGit tells how the environment and the branch that goes there differ.
func (s *shell) showGit(git *maruv1.GitStatus) {
	if git.GetMessage() == "" {
		return
	}
	fmt.Fprintln(s.Stdout, "git: "+git.Message)
	if git.Revert != "" {
		fmt.Fprintf(s.Stdout, "  %s takes it back in Git, too: fetch that branch, and merge it into %s\n", git.Revert, git.Branch)
	}
}

func (s *shell) showInstance(style style, i *maruv1.Instance) {
	state := i.Phase
	if i.Ready {
		state = "ready"
	}
	restarts := ""
	if i.Attempt > 1 {
		restarts = fmt.Sprintf("  restarted %d times", i.Attempt-1)
	}
	fmt.Fprintf(s.Stdout, "  %s  %s  %s  up %s%s\n", i.Id, style.state(state), i.AddressV4, strings.TrimSuffix(ago(i.Started), " ago"), restarts)
	if i.Why != "" {
		fmt.Fprintf(s.Stdout, "    %s\n", indent(i.Why))
	}
}

// indent puts the lines after the first under it.
func indent(text string) string { return strings.ReplaceAll(text, "\n", "\n    ") }

func (s *shell) releasesCommand() *cobra.Command {
	var service string
	var limit int
	c := &cobra.Command{Use: "releases", Short: "List rollouts and what they changed, newest first", Args: cobra.NoArgs,
		Long:    "Releases lists an app's rollouts, whose numbers 'maru rollback' takes. With --service it lists the releases of one service.",
		Example: "  maru releases\n  maru releases --service web"}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		if service != "" {
			return s.listReleases(ctx, call, service, limit)
		}
		list, err := call.Apps.Rollouts(ctx, &maruv1.RolloutsRequest{Scope: call.scope, Limit: int32(limit)})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(list)
		}
		t := s.table("ROLLOUT", "WHEN", "PHASE", "CAUSE", "BY", "SERVICES", "REASON")
		for _, r := range list.Rollouts {
			cause := r.Cause
			if r.Of != 0 {
				cause = fmt.Sprintf("%s to %d", cause, r.Of)
			}
			t.row(fmt.Sprint(r.Number), ago(r.Started), r.Phase, cause, orDash(r.By), strings.Join(append(sortedKeys(r.Services), prefixed("-", r.Removed)...), " "), firstLine(judged(r)))
		}
		return t.flush()
	})
	c.Flags().StringVar(&service, "service", "", "list this service's releases")
	c.Flags().IntVarP(&limit, "limit", "n", 20, "at most this many")
	_ = c.RegisterFlagCompletionFunc("service", s.completeServices)
	return c
}

// judged is why a rollout failed, or else what the judge says of what it brings.
func judged(r *maruv1.Rollout) string {
	if r.Reason != "" {
		return r.Reason
	}
	for _, name := range sortedKeys(r.Services) {
		if v := r.Services[name].Verdict; v != nil {
			return name + ": " + v.Why
		}
	}
	return ""
}

func (s *shell) listReleases(ctx context.Context, call appCall, service string, limit int) error {
	list, err := call.Apps.Releases(ctx, &maruv1.ReleasesRequest{Scope: call.scope, Service: service, Limit: int32(limit)})
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printMessage(list)
	}
	t := s.table("", "RELEASE", "WHEN", "BY", "IMAGE", "SOURCE", "JUDGED", "MESSAGE")
	for _, r := range list.Releases {
		mark := ""
		if r.Serving {
			mark = "*"
		}
		t.row(mark, fmt.Sprint(r.Number), ago(r.Created), orDash(r.By), shortImage(r.Image), orDash(cut(r.Source, 13)), orDash(r.Verdict.GetOutcome()), r.Message)
	}
	return t.flush()
}

func (s *shell) eventsCommand() *cobra.Command {
	var follow, everything, cloud bool
	var since string
	var tail int
	c := &cobra.Command{Use: "events [SERVICE]", Short: "Show what happened, and with -f what happens", Args: cobra.MaximumNArgs(1), ValidArgsFunction: s.completeServices,
		Example: "  maru events\n  maru events -f --all",
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			request := &maruv1.EventsRequest{Scope: s.place(), Follow: follow, Tail: int32(tail)}
			if !everything {
				if request.Scope, err = s.scope(c.Context()); err != nil {
					return err
				}
			}
			if len(args) == 1 {
				request.Service = args[0]
			}
			if request.Since, err = moment(since); err != nil {
				return err
			}
			stream, err := connected.Apps.Events(c.Context(), request)
			if err != nil {
				return err
			}
			defer stream.Close()
			style := styles(s.Stdout)
			for stream.Receive() {
				e := stream.Msg().Event
				if cloud {
					fmt.Fprintf(s.Stdout, "%s\n", maru.Raw(cloudEvent(e)))
					continue
				}
				if s.output == "json" {
					if err := s.printLine(e); err != nil {
						return err
					}
					continue
				}
				subject := e.Scope.GetApp()
				if e.Service != "" {
					subject += "/" + e.Service
				}
				fmt.Fprintf(s.Stdout, "%s  %-20s %-18s %s\n", style.dim(e.Time.AsTime().Local().Format("2006-01-02 15:04:05")), subject, e.Type, indent(e.Message))
			}
			return s.ended(c.Context(), stream.Err())
		}}
	c.Flags().BoolVar(&follow, "follow", false, "go on with what happens")
	c.Flags().BoolVar(&cloud, "cloudevents", false, "print each as a CloudEvent in JSON, one a line")
	c.Flags().BoolVarP(&everything, "all", "a", false, "of all apps of the environment")
	c.Flags().StringVar(&since, "since", "", "from this moment on: a time, or how long ago (10m)")
	c.Flags().IntVarP(&tail, "tail", "n", 100, "at most this many past events; 0: all")
	return c
}

// cloudEvent gives an event as CloudEvents 1.0 has it.
func cloudEvent(e *maruv1.Event) maru.CloudEvent {
	event := maru.Event{
		Time: e.Time.AsTime(), Scope: maru.Scope{Project: e.Scope.GetProject(), Environment: e.Scope.GetEnvironment(), App: e.Scope.GetApp()},
		Service: e.Service, Release: int(e.Release), Rollout: int(e.Rollout), Instance: e.Instance, Type: e.Type, Message: e.Message, By: e.By,
	}
	c := maru.NewCloudEvent("", e.Id, event)
	c.Source = e.Source
	return c
}

// ended is the error of a stream that the user may have ended with ^C, which is no error.
func (s *shell) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// moment reads a time, or how long ago it was. Empty is none.
func moment(text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return timestamppb.New(time.Now().Add(-d)), nil
	}
	for unit, days := range map[string]int{"d": 1, "w": 7} {
		if n, err := strconv.Atoi(strings.TrimSuffix(text, unit)); err == nil && strings.HasSuffix(text, unit) && n >= 0 && n < 36_500 {
			return timestamppb.New(time.Now().AddDate(0, 0, -n*days)), nil
		}
	}
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02", "15:04:05", "15:04"} {
		at, err := time.ParseInLocation(form, text, time.Local)
		if err != nil {
			continue
		}
		if at.Year() == 0 {
			now := time.Now()
			at = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), 0, time.Local)
		}
		return timestamppb.New(at), nil
	}
	return nil, misuse{fmt.Errorf("%q is neither a time such as 2006-01-02T15:04:05 nor how long ago, such as 10m", text)}
}

func (s *shell) topCommand() *cobra.Command {
	var once bool
	var everything bool
	c := &cobra.Command{Use: "top", Short: "Show what instances use, live", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			scope := s.place()
			if !everything {
				if scope, err = s.scope(c.Context()); err != nil {
					return err
				}
			}
			live := styles(s.Stdout).on && !once && s.output == "text"
			before := &maruv1.UsageResponse{}
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for first := true; ; first = false {
				now, err := connected.Apps.Usage(c.Context(), &maruv1.UsageRequest{Scope: scope})
				if err != nil {
					return s.ended(c.Context(), err)
				}
				if s.output == "json" && !first {
					return s.printMessage(now)
				}
				if !first {
					if live {
						fmt.Fprint(s.Stdout, "\x1b[H\x1b[J")
					}
					if err := s.showUsage(before, now); err != nil || !live {
						return err
					}
				}
				before = now
				select {
				case <-tick.C:
				case <-c.Context().Done():
					return nil
				}
			}
		}}
	c.Flags().BoolVar(&once, "once", false, "print once and end")
	c.Flags().BoolVarP(&everything, "all", "a", false, "of all apps of the environment")
	return c
}

func (s *shell) showUsage(before, now *maruv1.UsageResponse) error {
	cpu := map[string]time.Duration{}
	for _, u := range before.Usage {
		cpu[u.Instance] = u.Cpu.AsDuration()
	}
	elapsed := now.At.AsTime().Sub(before.At.AsTime())
	t := s.table("INSTANCE", "SERVICE", "CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN")
	for _, u := range now.Usage {
		share := "-"
		if then, ok := cpu[u.Instance]; ok && elapsed > 0 {
			share = fmt.Sprintf("%.1f%%", 100*float64(u.Cpu.AsDuration()-then)/float64(elapsed))
		}
		limit := "-"
		if u.MemoryLimit > 0 {
			limit = size(u.MemoryLimit)
		}
		t.row(u.Instance, u.Service, share, size(u.Memory), limit, fmt.Sprint(u.Pids), size(u.ReadBytes), size(u.WriteBytes))
	}
	return t.flush()
}
