package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) runsCommand() *cobra.Command {
	var everything bool
	c := &cobra.Command{Use: "runs", Short: "List what followed from pushes, newest first", Args: cobra.NoArgs,
		Long: `A push to an app's Git repository makes a run: its commit is built and deployed. Runs lists those of the app in
the environment. A NUMBER that is left out is that of the newest.`,
		Example: "  git push maru main\n  maru runs\n  maru runs logs --follow\n  maru runs retry 7",
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			scope := &maruv1.Scope{Project: s.project, Environment: s.environment, App: s.app}
			if !everything {
				if scope, err = s.scope(c.Context()); err != nil {
					return err
				}
			}
			list, err := connected.Runs.List(c.Context(), &maruv1.RunServiceListRequest{Scope: scope})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(list)
			}
			t := s.table("RUN", "APP", "ENVIRONMENT", "WHEN", "PHASE", "BRANCH", "COMMIT", "BY", "MESSAGE", "REASON")
			for _, r := range list.Runs {
				t.row(fmt.Sprint(r.Number), r.Scope.App, r.Scope.Environment, ago(r.Created), r.Phase, r.Branch, cut(r.Commit, 13), orDash(r.By), firstLine(r.Message), firstLine(r.Reason))
			}
			return t.flush()
		}}
	c.Flags().BoolVarP(&everything, "all", "a", false, "of all apps and environments")
	c.AddCommand(s.runLogsCommand(), s.runRetryCommand(), s.runCancelCommand())
	return c
}

// onRun makes a command that is about one run of an app.
func (s *shell) onRun(use, short string, run func(ctx context.Context, call appCall, number int32) error) *cobra.Command {
	return &cobra.Command{Use: use + " [NUMBER]", Short: short, Args: cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: s.onApp(func(ctx context.Context, call appCall) error {
			number := 0
			if len(call.args) > 0 {
				var err error
				if number, err = strconv.Atoi(call.args[0]); err != nil || number < 1 {
					return misuse{maru.Errorf(maru.Invalid, "%q is no number of a run", call.args[0])}
				}
			}
			return run(ctx, call, int32(number))
		})}
}

func (s *shell) runLogsCommand() *cobra.Command {
	var follow, timestamps bool
	c := s.onRun("logs", "Show what a run wrote, and with --follow what it writes", func(ctx context.Context, call appCall, number int32) error {
		return s.showRun(ctx, call, number, follow, timestamps)
	})
	c.Long = "With --follow the command ends with the run: with 0 when it succeeded, with 3 when it was taken back, else with 1."
	c.Flags().BoolVar(&follow, "follow", false, "go on until the run ends")
	c.Flags().BoolVarP(&timestamps, "timestamps", "t", false, "show when each line was written")
	return c
}

// showRun shows what a run wrote, and with follow what it writes until it ends.
func (s *shell) showRun(ctx context.Context, call appCall, number int32, follow, timestamps bool) error {
	stream, err := call.Runs.Logs(ctx, &maruv1.RunServiceLogsRequest{Scope: call.scope, Number: number, Follow: follow})
	if err != nil {
		return err
	}
	defer stream.Close()
	var last *maruv1.Run
	for stream.Receive() {
		m := stream.Msg()
		if s.output == "json" {
			if err := s.printLine(m); err != nil {
				return err
			}
		}
		if m.Run != nil {
			last = m.Run
		}
		if m.Line == nil || s.output == "json" {
			continue
		}
		line := maru.RunLogLine{Service: m.Line.Service, Output: m.Line.Output, Text: m.Line.Text}.String()
		if timestamps {
			line = m.Line.Time.AsTime().Local().Format(time.TimeOnly) + " " + line
		}
		fmt.Fprintln(s.Stdout, line)
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return outcome(last, follow)
}

// outcome is the error of a run that was followed to an end that is none to be glad of.
func outcome(run *maruv1.Run, followed bool) error {
	if run == nil || !followed {
		return nil
	}
	kind := maru.Conflict
	switch maru.RunPhase(run.Phase) {
	case maru.RunRolledBack:
		kind = maru.RolledBack
	case maru.RunFailed, maru.RunCancelled, maru.RunSuperseded:
	default:
		return nil
	}
	return maru.WithHint(maru.Errorf(kind, "run %d is %s: %s", run.Number, run.Phase, run.Reason), run.Hint)
}

func (s *shell) runRetryCommand() *cobra.Command {
	var all bool
	c := s.onRun("retry", "Run the commit of a run again", func(ctx context.Context, call appCall, number int32) error {
		response, err := call.Runs.Retry(ctx, &maruv1.RunServiceRetryRequest{Scope: call.scope, Number: number, All: all})
		return s.done(response, err, fmt.Sprintf("run %d is queued: maru runs logs --follow %d", response.GetRun().GetNumber(), response.GetRun().GetNumber()))
	})
	c.Long = `What went wrong is done again. Jobs of its workflows that succeeded count, with their outputs and artifacts, for 12
hours, unless a job that they need runs again.`
	c.Flags().BoolVar(&all, "all", false, "run all jobs again, also those that succeeded")
	return c
}

func (s *shell) runCancelCommand() *cobra.Command {
	return s.onRun("cancel", "End a run whose rollout has not begun", func(ctx context.Context, call appCall, number int32) error {
		response, err := call.Runs.Cancel(ctx, &maruv1.RunServiceCancelRequest{Scope: call.scope, Number: number})
		return s.done(response, err, fmt.Sprintf("run %d is cancelled", response.GetRun().GetNumber()))
	})
}

func (s *shell) approveCommand() *cobra.Command {
	c := s.onRun("approve", "Let a run go on that waits for it", func(ctx context.Context, call appCall, number int32) error {
		response, err := call.Runs.Approve(ctx, &maruv1.RunServiceApproveRequest{Scope: call.scope, Number: number})
		return s.done(response, err, fmt.Sprintf("run %d goes on: maru runs logs --follow %d", response.GetRun().GetNumber(), response.GetRun().GetNumber()))
	})
	c.Long = "In an environment that says deploy: manual under x-maru.environments, runs wait until somebody who may deploy there approves."
	c.Example = "  maru approve\n  maru approve 12 --env production"
	return c
}
