package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// followRollout shows a rollout that a command began, unless it is to be left alone.
func (s *shell) followRollout(ctx context.Context, call appCall, rollout *maruv1.Rollout, detach bool) error {
	if rollout == nil && s.output == "json" {
		return s.printJSON(struct{}{})
	}
	if rollout == nil {
		fmt.Fprintln(s.Stdout, "nothing to do: it is in that state already")
		return nil
	}
	if detach {
		if s.output == "json" {
			return s.printMessage(rollout)
		}
		fmt.Fprintf(s.Stdout, "rollout %d of %s has begun\n", rollout.Number, call.scope.App)
		return nil
	}
	stream, err := call.Apps.Follow(ctx, &maruv1.FollowRequest{Scope: call.scope, Rollout: rollout.Number})
	if err != nil {
		return err
	}
	defer stream.Close()
	return s.follow(call.scope, func(e *event) bool {
		if !stream.Receive() {
			return false
		}
		m := stream.Msg()
		e.progress, e.status, e.result, e.message = m.GetProgress(), m.GetStatus(), m.GetResult(), m
		return true
	}, stream.Err)
}

func (s *shell) rollbackCommand() *cobra.Command {
	var detach bool
	c := &cobra.Command{Use: "rollback [N]", Short: "Go back to the state after an earlier rollout", Args: cobra.MaximumNArgs(1),
		Long: `Rollback brings back the releases that the app had after rollout N, or without N after the last one that
succeeded before the present one. Their images are still there, so it takes seconds. It is a rollout
itself: 'maru releases' shows the numbers.`,
		Example: "  maru rollback\n  maru rollback 7", ValidArgsFunction: firstArg(s.completeRollouts),
	}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		to := 0
		if len(call.args) == 1 {
			n, err := strconv.Atoi(call.args[0])
			if err != nil || n < 1 {
				return misuse{maru.WithHint(fmt.Errorf("%q is no number of a rollout", call.args[0]), "'maru releases' shows them")}
			}
			to = n
		}
		response, err := call.Apps.Rollback(ctx, &maruv1.RollbackRequest{Scope: call.scope, To: int32(to)})
		if err != nil {
			return err
		}
		return s.followRollout(ctx, call, response.Rollout, detach)
	})
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the rollout has begun")
	return c
}

func (s *shell) restartCommand() *cobra.Command {
	var detach bool
	c := &cobra.Command{Use: "restart [SERVICE…]", Short: "Replace instances by fresh ones, without a gap", ValidArgsFunction: s.completeServices}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Apps.Restart(ctx, &maruv1.RestartRequest{Scope: call.scope, Services: call.args})
		if err != nil {
			return err
		}
		return s.followRollout(ctx, call, response.Rollout, detach)
	})
	c.Flags().BoolVarP(&detach, "detach", "d", false, "return when the rollout has begun")
	return c
}

func (s *shell) scaleCommand() *cobra.Command {
	c := &cobra.Command{Use: "scale SERVICE N", Short: "Set how many instances a service has", Args: cobra.ExactArgs(2),
		Long:              "Scale sets the number of instances, which deploys then keep. 'file' as N goes back to what the compose file says.",
		Example:           "  maru scale web 4\n  maru scale web file",
		ValidArgsFunction: firstArg(s.completeServices)}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		n := -1
		if call.args[1] != "file" {
			var err error
			if n, err = strconv.Atoi(call.args[1]); err != nil || n < 0 || n > 10_000 {
				return misuse{fmt.Errorf("%q is no number of instances", call.args[1])}
			}
		}
		_, err := call.Apps.Scale(ctx, &maruv1.ScaleRequest{Scope: call.scope, Replicas: map[string]int32{call.args[0]: int32(n)}})
		if err != nil {
			return err
		}
		return s.awaitReady(ctx, call, call.args[:1])
	})
	return c
}

// awaitReady waits until the services have the instances that they should, and shows how it goes.
func (s *shell) awaitReady(ctx context.Context, call appCall, services []string) error {
	stream, err := call.Apps.Watch(ctx, &maruv1.WatchRequest{Scope: call.scope})
	if err != nil {
		return err
	}
	defer stream.Close()
	told := ""
	for stream.Receive() {
		settled, line := true, ""
		for _, service := range stream.Msg().App.Services {
			if !contains(services, service.Name) {
				continue
			}
			line += fmt.Sprintf("%s: %d of %d ready %s\n", service.Name, service.Ready, service.Wanted, service.Message)
			if service.State == "done" {
				continue // it ran to its end and is not ready for anything any more
			}
			if service.Ready != service.Wanted || serving(service) != int(service.Wanted) {
				settled = false
			}
		}
		if line != told && !s.quiet && s.output == "text" {
			fmt.Fprint(s.Stdout, line)
			told = line
		}
		if settled && s.output == "json" {
			return s.printMessage(stream.Msg().App)
		}
		if settled {
			return nil
		}
	}
	return stream.Err()
}

// serving counts the instances that are the service's, and no steps or one-offs of it, nor what stands beside
// the release that serves.
func serving(service *maruv1.ServiceStatus) int {
	n := 0
	for _, i := range service.Instances {
		beside := i.Ready && i.Workload != fmt.Sprint(service.Release)
		if !strings.Contains(i.Workload, ".") && !beside {
			n++
		}
	}
	return n
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return len(names) == 0
}

func (s *shell) stopCommand() *cobra.Command {
	var again bool
	c := &cobra.Command{Use: "stop [SERVICE…]", Short: "Stop services, keeping their releases and volumes",
		Long:              "Stop drains and stops the instances of services, or of the whole app. 'maru stop --undo', a restart or a deploy brings them back.",
		ValidArgsFunction: s.completeServices}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		if again {
			if _, err := call.Apps.Start(ctx, &maruv1.StartRequest{Scope: call.scope, Services: call.args}); err != nil {
				return err
			}
			return s.awaitReady(ctx, call, call.args)
		}
		_, err := call.Apps.Stop(ctx, &maruv1.StopRequest{Scope: call.scope, Services: call.args})
		if err != nil {
			return err
		}
		return s.awaitReady(ctx, call, call.args)
	})
	c.Flags().BoolVar(&again, "undo", false, "start what was stopped")
	return c
}

func (s *shell) removeCommand() *cobra.Command {
	var volumes, yes bool
	c := &cobra.Command{Use: "rm", Short: "Remove an app: its services, routes and releases", Args: cobra.NoArgs,
		Long:    "Rm drains and removes all services of an app. Its volumes stay, unless --volumes is given.",
		Example: "  maru rm --app shop\n  maru rm --app shop --volumes"}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		if err := s.confirm(yes, fmt.Sprintf("Remove the app %s of %s?", call.scope.App, call.scope.Environment)); err != nil {
			return err
		}
		response, err := call.Apps.Remove(ctx, &maruv1.RemoveRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		if err := s.followRollout(ctx, call, response.Rollout, false); err != nil {
			return err
		}
		if !volumes {
			return nil
		}
		list, err := call.Volumes.List(ctx, &maruv1.VolumeServiceListRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		remove := &maruv1.VolumeServiceRemoveRequest{Scope: call.scope}
		for _, v := range list.Volumes {
			if v.Scope.App == call.scope.App {
				remove.Names = append(remove.Names, v.Name)
			}
		}
		if len(remove.Names) > 0 {
			_, err = call.Volumes.Remove(ctx, remove)
		}
		return err
	})
	c.Flags().BoolVar(&volumes, "volumes", false, "also remove the app's volumes and what is in them")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return c
}

// confirm asks on a terminal; elsewhere it requires --yes.
func (s *shell) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(s.Stdin) {
		return misuse{maru.WithHint(errors.New("this can't be undone"), "confirm with --yes")}
	}
	fmt.Fprintf(s.Stderr, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(s.Stdin, &answer); err != nil || answer != "y" && answer != "Y" && answer != "yes" {
		return maru.Errorf(maru.Interrupted, "not confirmed: nothing was changed")
	}
	return nil
}
