package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// completed is what a completion gives a shell. Without an answer from the server there is nothing to
// choose from, which is no reason to complete files.
func completed(names []string, err error) ([]string, cobra.ShellCompDirective) {
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *shell) completeApps(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	connected, err := s.connect()
	if err != nil {
		return completed(nil, err)
	}
	list, err := connected.Apps.List(c.Context(), &maruv1.ListRequest{Scope: s.place()})
	if err != nil {
		return completed(nil, err)
	}
	var names []string
	for _, a := range list.Apps {
		names = append(names, a.Scope.App)
	}
	return completed(names, nil)
}

func (s *shell) completeServices(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	status, err := s.statusHere(c.Context())
	for _, service := range status.GetServices() {
		names = append(names, service.Name)
	}
	return completed(names, err)
}

func (s *shell) completeInstances(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	status, err := s.statusHere(c.Context())
	for _, service := range status.GetServices() {
		for _, i := range service.Instances {
			names = append(names, i.Id)
		}
	}
	return completed(names, err)
}

// completeRollouts gives the numbers of rollouts that one can go back to, with what they were.
func (s *shell) completeRollouts(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	scope, err := s.scope(c.Context())
	if err != nil {
		return completed(nil, err)
	}
	connected, err := s.connect()
	if err != nil {
		return completed(nil, err)
	}
	list, err := connected.Apps.Rollouts(c.Context(), &maruv1.RolloutsRequest{Scope: scope})
	if err != nil {
		return completed(nil, err)
	}
	var numbers []string
	for _, r := range list.Rollouts {
		if r.Phase == "succeeded" {
			numbers = append(numbers, fmt.Sprintf("%d\t%s by %s, %s", r.Number, r.Cause, orDash(r.By), ago(r.Started)))
		}
	}
	return numbers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeKept completes the names of things that an app keeps, such as its secrets.
func (s *shell) completeKept(list func(context.Context, appCall) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		err := s.onApp(func(ctx context.Context, call appCall) (err error) {
			names, err = list(ctx, call)
			return err
		})(c, nil)
		return completed(names, err)
	}
}

// firstArg completes the first argument only.
func firstArg(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return complete(c, args, begun)
	}
}
