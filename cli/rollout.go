package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) promoteCommand() *cobra.Command {
	var all, detach bool
	var from, to string
	c := &cobra.Command{Use: "promote [SERVICE…]", Short: "Let a rollout go to its next step, or bring an environment to another",
		Long: `Promote lets services whose traffic moves step by step (x-maru: {rollout: canary} or blue-green) go to
their next step at once, whatever the evidence is so far: past a step with pause, or one that is held. With
--all they go to the end of their steps. A release that shows to be worse is taken back all the same.

With --from it deploys what runs in another environment, without building: the very same images, by digest, and
the file of the commit they came from, with the values, secrets and domain of the environment that --to names.
Where that says deploy: manual, the run waits for 'maru approve'.`,
		Example: "  maru promote\n  maru promote web --all\n  maru promote --from staging --to production", ValidArgsFunction: s.completeServices}
	step := s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Promote(ctx, &maruv1.PromoteRequest{Scope: call.scope, Services: call.args, All: all})
		if err != nil {
			return err
		}
		return s.steered(response.Rollout, "goes on")
	})
	bring := s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Runs.Promote(ctx, &maruv1.RunServicePromoteRequest{Scope: call.scope, From: from})
		if err != nil {
			return err
		}
		if detach || response.Run.Phase == string(maru.RunWaiting) {
			if s.output == "json" {
				return s.printMessage(response.Run)
			}
			what := "is queued: maru runs logs --follow %d --env %s"
			if response.Run.Phase == string(maru.RunWaiting) {
				what = "waits for approval: maru approve %d --env %s"
			}
			fmt.Fprintf(s.Stdout, "run %d of %s "+what+"\n", response.Run.Number, call.scope.App, response.Run.Number, call.scope.Environment)
			return nil
		}
		return s.showRun(ctx, call, response.Run.Number, true, false)
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case from == "" && to == "":
			return step(c, args)
		case from == "":
			return misuse{maru.WithHint(errors.New("it is not said what is promoted"), "name its environment with --from")}
		case len(args) > 0 || all:
			return misuse{errors.New("with --from all services are promoted at once")}
		}
		if to != "" {
			s.environment = to
		}
		return bring(c, args)
	}
	c.Flags().BoolVar(&all, "all", false, "give it all of the traffic")
	c.Flags().StringVar(&from, "from", "", "environment to take the images from")
	c.Flags().StringVar(&to, "to", "", "environment to deploy them to (default: that of --env)")
	c.Flags().BoolVarP(&detach, "detach", "d", false, "with --from: return when the run is queued")
	return c
}

func (s *shell) abortCommand() *cobra.Command {
	var detach bool
	c := &cobra.Command{Use: "abort", Short: "Take back the rollout that is under way", Args: cobra.NoArgs,
		Long: `Abort turns the rollout that is under way back as a whole. Traffic goes at once where it went before, and
then the new instances go. Without a rollout it goes back to what a blue-green rollout keeps warm; what is not
kept any more 'maru rollback' starts again.`}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Abort(ctx, &maruv1.AbortRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		err = s.followRollout(ctx, call, response.Rollout, detach)
		if maru.KindOf(err) == maru.RolledBack { // which is what was asked for
			if s.output != "json" {
				fmt.Fprintf(s.Stdout, "rollout %d of %s was taken back\n", response.Rollout.Number, call.scope.App)
			}
			return nil
		}
		return err
	})
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when traffic is back")
	return c
}

func (s *shell) rolloutCommand() *cobra.Command {
	c := &cobra.Command{Use: "rollout", Short: "Show and steer the rollout of an app",
		Example: "  maru rollout status\n  maru rollout status --watch\n  maru rollout pause"}
	var watch bool
	status := &cobra.Command{Use: "status", Short: "Show how far the latest rollout is, and what the judge says", Args: cobra.NoArgs}
	status.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Status(ctx, &maruv1.StatusRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		r := response.App.Rollout
		switch {
		case r == nil:
			return maru.WithHint(maru.Errorf(maru.NotFound, "%s had no rollout yet", call.scope.App), "'maru deploy' begins one")
		case watch && !ended(r.Phase):
			return s.followRollout(ctx, call, r, false)
		case s.output == "json":
			return s.printMessage(r)
		}
		return s.showRollout(response.App)
	})
	status.Flags().BoolVarP(&watch, "watch", "w", false, "go on until it has ended; exits with 3 when it was taken back")
	pause := &cobra.Command{Use: "pause", Short: "Have it stay at its present shares of the traffic", Args: cobra.NoArgs,
		Long: "Pause keeps every service at its present step until 'maru rollout resume' or 'maru promote'. A release that shows to be worse meanwhile is taken back all the same."}
	pause.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Pause(ctx, &maruv1.PauseRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		return s.steered(response.Rollout, "is paused")
	})
	resume := &cobra.Command{Use: "resume", Short: "Have it go on", Args: cobra.NoArgs}
	resume.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Resume(ctx, &maruv1.ResumeRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		return s.steered(response.Rollout, "goes on")
	})
	c.AddCommand(status, pause, resume)
	return c
}

// steered tells what became of a rollout.
func (s *shell) steered(r *maruv1.Rollout, what string) error {
	if s.output == "json" {
		return s.printMessage(r)
	}
	fmt.Fprintf(s.Stdout, "rollout %d %s: 'maru rollout status' shows how far it is\n", r.Number, what)
	return nil
}

// ended tells whether nothing follows the phase.
func ended(phase string) bool {
	switch maru.RolloutPhase(phase) {
	case maru.Succeeded, maru.Failed, maru.RolledBackPhase, maru.Superseded:
		return true
	}
	return false
}

func (s *shell) showRollout(app *maruv1.AppStatus) error {
	style, r := styles(s.Stdout), app.Rollout
	line := fmt.Sprintf("rollout %d of %s (%s by %s, %s): %s", r.Number, style.bold(app.Scope.App), r.Cause, orDash(r.By), ago(r.Started), style.state(r.Phase))
	if r.Paused {
		line += ", paused"
	}
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	fmt.Fprintln(s.Stdout, line)
	serving := map[string]string{}
	for _, service := range app.Services {
		serving[service.Name] = shares(service.Serving)
	}
	t := s.table("SERVICE", "FROM", "TO", "PHASE", "SINCE", "STEP", "TRAFFIC", "HELD")
	for _, name := range sortedKeys(r.Services) {
		e := r.Services[name]
		step := "-"
		if e.Step > 0 {
			step = fmt.Sprint(e.Step)
		}
		since := e.Since
		if e.Stepped != nil && e.Phase == string(maru.Shifting) {
			since = e.Stepped
		}
		t.row(name, release(e.From), release(e.To), e.Phase, ago(since), step, orDash(serving[name]), orDash(e.Held))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, name := range sortedKeys(r.Services) {
		if e := r.Services[name]; e.After != "" {
			fmt.Fprintf(s.Stdout, "%s: the step after it: %s\n", style.bold(name), strings.TrimSuffix(e.After+": "+e.AfterReason, ": "))
		}
		if text := beside(app, name, r.Services[name]); text != "" {
			fmt.Fprintf(s.Stdout, "%s: %s\n", style.bold(name), text)
		}
		if v := r.Services[name].Verdict; v != nil {
			fmt.Fprintf(s.Stdout, "%s: %s\n", style.bold(name), v.Why)
		}
	}
	return nil
}

// beside tells of the fresh instances of the release before that a service's new one is compared with.
func beside(app *maruv1.AppStatus, service string, e *maruv1.ServiceRollout) string {
	workload := maru.BaselineName(int(e.From), int(e.To))
	there, ready := 0, 0
	for _, s := range app.Services {
		for _, i := range s.Instances {
			if s.Name == service && i.Workload == workload {
				there++
				if i.Ready {
					ready++
				}
			}
		}
	}
	if there == 0 {
		return ""
	}
	return fmt.Sprintf("compared with a fresh baseline of release %d: %d of %d instances ready", e.From, ready, there)
}

func release(number int32) string {
	if number == 0 {
		return "-"
	}
	return fmt.Sprint(number)
}

// shares says which releases have which part of the traffic.
func shares(all []*maruv1.Share) string {
	total := int32(0)
	for _, share := range all {
		total += share.Weight
	}
	var out []string
	for _, share := range all {
		if total > 0 {
			out = append(out, fmt.Sprintf("%d: %d%%", share.Release, (share.Weight*100+total/2)/total))
		}
	}
	return strings.Join(out, ", ")
}
