package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// listEnvironments shows where an app lives, or all apps where none is meant.
func (s *shell) listEnvironments(ctx context.Context) error {
	connected, err := s.connect()
	if err != nil {
		return err
	}
	scope := &maruv1.Scope{Project: s.place().Project, Environment: s.environment, App: s.app}
	if scope.App == "" {
		if here, err := s.scope(ctx); err == nil {
			scope.App = here.App
		} else if len(s.files) > 0 {
			return err
		}
	}
	list, err := connected.Environments.List(ctx, &maruv1.EnvironmentServiceListRequest{Scope: scope})
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printMessage(list)
	}
	t := s.table("ENVIRONMENT", "APP", "STATE", "READY", "BRANCH", "AGE", "LEFT", "ADDRESSES")
	for _, e := range list.Environments {
		state, branch, age, left := orDash(e.State), "-", "-", "-"
		if p := e.Preview; p != nil {
			branch, age, left = p.Branch, strings.TrimSuffix(ago(p.Created), " ago"), timeLeft(p, time.Now())
			if p.Leaving != "" {
				state = "removing"
			}
		}
		t.row(e.Scope.Environment, e.Scope.App, state, fmt.Sprintf("%d/%d", e.Ready, e.Wanted), branch, age, left, strings.Join(e.Addresses, " "))
	}
	return t.flush()
}

// showPreview tells of the branch whose environment this is, if it is one's.
func (s *shell) showPreview(ctx context.Context, call appCall) error {
	list, err := call.Environments.List(ctx, &maruv1.EnvironmentServiceListRequest{Scope: call.scope})
	if maru.KindOf(err) == maru.Unsupported {
		return nil // a server of an older version
	}
	if err != nil {
		return err
	}
	for _, e := range list.Environments {
		if p := e.Preview; p != nil {
			fmt.Fprintf(s.Stdout, "\npreview of %s, made %s, time left: %s\n", p.Branch, ago(p.Created), timeLeft(p, time.Now()))
		}
	}
	return nil
}

// timeLeft says how long a preview stays.
func timeLeft(p *maruv1.Preview, now time.Time) string {
	switch {
	case p.Leaving != "":
		return "it goes: " + p.Leaving
	case p.Expires == nil:
		return "with its branch"
	}
	left := max(p.Expires.AsTime().Sub(now), 0)
	if left >= time.Hour {
		return strings.TrimSuffix(left.Truncate(time.Minute).String(), "0s")
	}
	return left.Truncate(time.Second).String()
}

func (s *shell) deleteEnvironmentCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "delete [NAME]", Short: "Take the environment of a branch away, with all that is in it", Args: cobra.MaximumNArgs(1),
		Long: `Delete takes away a preview: its services, volumes, values, configs and secrets. Its branch stays; another push to
it makes a new one. Without a NAME it is the environment that --env names.`,
		Example: "  maru env delete preview-fix-1 --app shop"}
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			s.environment = args[0]
		}
		if s.environment == "" {
			return misuse{maru.WithHint(errors.New("no environment is named"), "'maru env' lists them")}
		}
		return s.onApp(func(ctx context.Context, call appCall) error {
			if err := s.confirm(yes, fmt.Sprintf("Take away %s of %s with all that is in it?", call.scope.Environment, call.scope.App)); err != nil {
				return err
			}
			response, err := call.Environments.Remove(ctx, &maruv1.EnvironmentServiceRemoveRequest{Scope: call.scope})
			return s.done(response, err, call.scope.Environment+" goes: 'maru env' shows when it is gone")
		})(c, nil)
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return c
}

func (s *shell) repositoryCommand() *cobra.Command {
	c := &cobra.Command{Use: "repo", Short: "Show an app's Git repository, and protect its branches", Args: cobra.NoArgs,
		Example: "  maru repo\n  maru repo protect 'release/*'\n  maru repo follow https://github.com/ann/shop"}
	show := func(r *maruv1.Repository) error {
		if s.output == "json" {
			return s.printMessage(r)
		}
		t := s.table("BRANCH", "COMMIT", "ENVIRONMENT", "")
		for _, b := range r.Branches {
			var notes []string
			if b.Name == r.DefaultBranch {
				notes = append(notes, "default")
			}
			if b.Protected {
				notes = append(notes, "protected")
			}
			t.row(b.Name, cut(b.Commit, 13), orDash(b.Environment), strings.Join(notes, ", "))
		}
		if err := t.flush(); err != nil {
			return err
		}
		if len(r.Protected) > 0 {
			fmt.Fprintf(s.Stdout, "protected: %s\n", strings.Join(r.Protected, ", "))
		}
		if f := r.Following; f != nil {
			fmt.Fprintf(s.Stdout, "follows %s (%s), last looked at %s\n", f.Url, f.Forge, orDash(ago(f.Looked)))
			if f.Error != "" {
				fmt.Fprintf(s.Stdout, "  %s\n", indent(f.Error))
			}
			if f.Hook != "" {
				fmt.Fprintf(s.Stdout, "  webhooks: %s at this server\n", f.Hook)
			}
		}
		return nil
	}
	c.AddCommand(s.followCommand(), s.unfollowCommand())
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		response, err := call.Repositories.Get(ctx, &maruv1.RepositoryServiceGetRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		return show(response.Repository)
	})
	for _, one := range []struct {
		use, short string
		release    bool
	}{
		{"protect PATTERN", "Have branches protected from being rewound or deleted", false},
		{"unprotect PATTERN", "Take such a protection away", true},
	} {
		protect := &cobra.Command{Use: one.use, Short: one.short, Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
			Long: one.short + `. A pattern names a branch, or has stars that stand for anything. The default branch, and those that
x-maru.environments names without a star, are protected anyway. It needs the admin role.`,
			RunE: s.onApp(func(ctx context.Context, call appCall) error {
				response, err := call.Repositories.Protect(ctx, &maruv1.RepositoryServiceProtectRequest{Scope: call.scope, Pattern: call.args[0], Release: one.release})
				if err != nil {
					return err
				}
				return show(response.Repository)
			})}
		c.AddCommand(protect)
	}
	return c
}

func (s *shell) followCommand() *cobra.Command {
	following := &maruv1.Following{}
	var every time.Duration
	c := &cobra.Command{Use: "follow URL", Short: "Have what is pushed to a repository elsewhere go the way of a push here", Args: cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Follow has the app's repository follow one at GitHub, GitLab, Gitea or any server that speaks Git's smart protocol
by HTTP. It is looked for news from time to time, and at once when a webhook comes. Pushes here are refused meanwhile.
With credentials the states of commits are told there. Secrets are the app's in production. It needs the admin role.`,
		Example: "  maru secret set github_token\n  maru secret set github_hook\n  maru repo follow https://github.com/ann/shop --credentials github_token --webhook github_hook"}
	c.RunE = s.onApp(func(ctx context.Context, call appCall) error {
		following.Url = call.args[0]
		if every > 0 {
			following.Every = durationpb.New(every)
		}
		response, err := call.Repositories.Follow(ctx, &maruv1.RepositoryServiceFollowRequest{Scope: call.scope, Following: following})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response.Following)
		}
		f := response.Following
		fmt.Fprintf(s.Stdout, "%s follows %s (%s): 'maru repo' shows how that goes\n", call.scope.App, f.Url, f.Forge)
		if f.Hook != "" {
			fmt.Fprintf(s.Stdout, "webhooks are taken at %s of this server, with the secret %s\n", f.Hook, f.Webhook)
		}
		return nil
	})
	flags := c.Flags()
	flags.StringArrayVar(&following.Branches, "branch", nil, "pattern of branches to follow; may be repeated (default all)")
	flags.DurationVar(&every, "every", 0, "time between two looks (default 1m)")
	flags.StringVar(&following.Credentials, "credentials", "", "secret with a token, or USER:PASSWORD")
	flags.StringVar(&following.Webhook, "webhook", "", "secret that webhooks are signed with")
	flags.StringVar(&following.Forge, "forge", "", "github, gitlab, gitea or generic (default: by the host)")
	flags.StringVar(&following.Api, "api-url", "", "address of the forge's API (default: by the forge)")
	_ = c.RegisterFlagCompletionFunc("forge", cobra.FixedCompletions([]string{"github", "gitlab", "gitea", "generic"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (s *shell) unfollowCommand() *cobra.Command {
	return &cobra.Command{Use: "unfollow", Short: "No longer follow a repository elsewhere; what was fetched stays", Args: cobra.NoArgs,
		RunE: s.onApp(func(ctx context.Context, call appCall) error {
			response, err := call.Repositories.Unfollow(ctx, &maruv1.RepositoryServiceUnfollowRequest{Scope: call.scope})
			return s.done(response, err, call.scope.App+" takes pushes again")
		})}
}
