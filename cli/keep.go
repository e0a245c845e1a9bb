package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

type timestamp = *timestamppb.Timestamp

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func prefixed(prefix string, all []string) []string {
	var out []string
	for _, one := range all {
		out = append(out, prefix+one)
	}
	return out
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// onKept runs a command about what is kept for an app, or with --shared for all apps of the environment.
func (s *shell) onKept(shared *bool, run func(ctx context.Context, call appCall) error) func(*cobra.Command, []string) error {
	onApp := s.onApp(run)
	return func(c *cobra.Command, args []string) error {
		if !*shared {
			return onApp(c, args)
		}
		connected, err := s.connect()
		if err != nil {
			return err
		}
		return run(c.Context(), appCall{connected, s.place(), args})
	}
}

// onListed runs a command that lists what an app has, or where no app is meant, what all have.
func (s *shell) onListed(everything *bool, run func(ctx context.Context, call appCall) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		scope := s.place()
		if !*everything {
			if scope, err = s.scopeOrAll(c.Context()); err != nil {
				return err
			}
		}
		return run(c.Context(), appCall{connected, scope, args})
	}
}

// readValue gives a value from a file, from standard input, or from the user, who types it unseen.
func (s *shell) readValue(name, file string) ([]byte, error) {
	switch {
	case file != "" && file != "-":
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "read the value: %w", err)
		}
		return data, nil
	case file == "" && isTerminal(s.Stdin):
		fmt.Fprintf(s.Stderr, "value of %s: ", name)
		value, err := term.ReadPassword(int(s.Stdin.(*os.File).Fd()))
		fmt.Fprintln(s.Stderr)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "read the value: %w", err)
		}
		return value, nil
	}
	data, err := io.ReadAll(s.Stdin)
	if err != nil {
		return nil, maru.Errorf(maru.Invalid, "read the value: %w", err)
	}
	if file == "" { // piped from echo and its like
		data = []byte(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"))
	}
	return data, nil
}

func (s *shell) secretCommand() *cobra.Command {
	var shared, ci bool
	var file string
	c := &cobra.Command{Use: "secret", Short: "Set, list and remove secrets", Args: cobra.NoArgs,
		Long: `Secrets are kept encrypted and reach instances as files. A compose file names them under secrets:, with
external: true for those set here. A new value takes effect with the next deploy.

With --ci they are for the app's workflows, as ${{ secrets.NAME }}: in runs of branches that only those may push to
who may deploy there. Instances don't see them.`,
		Example: "  maru secret set db_password            # asks for it\n  pwgen 32 1 | maru secret set db_password\n  maru secret set tls_key --from server.key\n  maru secret set --ci NPM_TOKEN"}
	set := &cobra.Command{Use: "set NAME", Short: "Set a secret", Args: cobra.ExactArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		value, err := s.readValue(call.args[0], file)
		if err != nil {
			return err
		}
		response, err := call.Secrets.Set(ctx, &maruv1.SecretServiceSetRequest{Scope: call.scope, Name: call.args[0], Value: value, Ci: ci})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		if response.Unchanged {
			fmt.Fprintf(s.Stdout, "%s is version %d already\n", call.args[0], response.Version)
			return nil
		}
		next := "the next deploy brings it"
		if ci {
			next = "the next run has it"
		}
		fmt.Fprintf(s.Stdout, "%s is version %d; %s\n", call.args[0], response.Version, next)
		return nil
	})}
	set.Flags().StringVar(&file, "from", "", "read the value from this file as it is; - is standard input")
	list := &cobra.Command{Use: "ls", Short: "List secrets, without their values", Args: cobra.NoArgs, RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Secrets.List(ctx, &maruv1.SecretServiceListRequest{Scope: call.scope, Ci: ci})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		t := s.table("NAME", "APP", "VERSION", "UPDATED", "BY")
		for _, secret := range response.Secrets {
			t.row(secret.Name, orDash(secret.Scope.App), fmt.Sprint(secret.Version), ago(secret.Updated), secret.By)
		}
		return t.flush()
	})}
	remove := &cobra.Command{Use: "rm NAME…", Short: "Remove secrets", Args: cobra.MinimumNArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Secrets.Remove(ctx, &maruv1.SecretServiceRemoveRequest{Scope: call.scope, Names: call.args, Ci: ci})
		return s.done(response, err, "removed "+strings.Join(call.args, ", "))
	})}
	remove.ValidArgsFunction = s.completeKept(func(ctx context.Context, call appCall) (names []string, err error) {
		response, err := call.Secrets.List(ctx, &maruv1.SecretServiceListRequest{Scope: call.scope, Ci: ci})
		for _, secret := range response.GetSecrets() {
			names = append(names, secret.Name)
		}
		return names, err
	})
	c.PersistentFlags().BoolVar(&shared, "shared", false, "for all apps of the environment")
	c.PersistentFlags().BoolVar(&ci, "ci", false, "those of workflows")
	c.AddCommand(set, list, remove)
	return c
}

func (s *shell) configCommand() *cobra.Command {
	var shared bool
	var file string
	c := &cobra.Command{Use: "config", Short: "Set, list and remove configs that compose files call external", Args: cobra.NoArgs,
		Example: "  maru config set nginx_conf --from nginx.conf"}
	set := &cobra.Command{Use: "set NAME", Short: "Set a config's content", Args: cobra.ExactArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		if file == "" && isTerminal(s.Stdin) {
			return misuse{errors.New("give the content with --from, or on standard input")}
		}
		if file == "" {
			file = "-"
		}
		content, err := s.readValue(call.args[0], file)
		if err != nil {
			return err
		}
		response, err := call.Configs.Set(ctx, &maruv1.ConfigServiceSetRequest{Scope: call.scope, Name: call.args[0], Content: content})
		return s.done(response, err, call.args[0]+" is set; the next deploy brings it")
	})}
	set.Flags().StringVar(&file, "from", "", "read the content from this file; - is standard input")
	list := &cobra.Command{Use: "ls", Short: "List configs", Args: cobra.NoArgs, RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Configs.List(ctx, &maruv1.ConfigServiceListRequest{Scope: call.scope})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		t := s.table("NAME", "APP", "SIZE", "UPDATED", "BY")
		for _, config := range response.Configs {
			t.row(config.Name, orDash(config.Scope.App), size(config.Size), ago(config.Updated), config.By)
		}
		return t.flush()
	})}
	remove := &cobra.Command{Use: "rm NAME…", Short: "Remove configs", Args: cobra.MinimumNArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Configs.Remove(ctx, &maruv1.ConfigServiceRemoveRequest{Scope: call.scope, Names: call.args})
		return s.done(response, err, "removed "+strings.Join(call.args, ", "))
	})}
	c.PersistentFlags().BoolVar(&shared, "shared", false, "for all apps of the environment")
	c.AddCommand(set, list, remove)
	return c
}

func (s *shell) envCommand() *cobra.Command {
	var shared, effective, ci bool
	c := &cobra.Command{Use: "env", Short: "List environments, and set the values that they have for ${VAR}", Args: cobra.NoArgs,
		Long: `Env lists the environments that an app lives in: those of branches with the time that is left to them, and all
with where they are. Its commands keep the values that an environment has for ${VAR} in compose files. They go
before those of .env files, and this shell's own variables before them. The values of an entry of
x-maru.environments hold for all its previews. What must stay secret belongs into 'maru secret'.

With --ci they are variables of the app's workflows, as ${{ vars.NAME }}.`,
		Example: "  maru env\n  maru env set LOG_LEVEL=debug --env staging\n  maru env ls\n  maru env delete preview-fix-1"}
	c.RunE = func(c *cobra.Command, _ []string) error { return s.listEnvironments(c.Context()) }
	set := &cobra.Command{Use: "set NAME=VALUE…", Short: "Set values", Args: cobra.MinimumNArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		values, err := pairs(call.args)
		if err != nil {
			return err
		}
		response, err := call.Env.Set(ctx, &maruv1.EnvServiceSetRequest{Scope: call.scope, Values: values, Ci: ci})
		next := "; the next deploy brings it"
		if ci {
			next = "; the next run has it"
		}
		return s.done(response, err, strings.Join(sortedKeys(values), ", ")+" set"+next)
	})}
	list := &cobra.Command{Use: "ls", Short: "List values", Args: cobra.NoArgs, RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Env.List(ctx, &maruv1.EnvServiceListRequest{Scope: call.scope, Effective: effective, Ci: ci})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		for _, name := range sortedKeys(response.Values) {
			fmt.Fprintf(s.Stdout, "%s=%s\n", name, response.Values[name])
		}
		return nil
	})}
	list.Flags().BoolVar(&effective, "effective", false, "also those that the environment has for all apps")
	remove := &cobra.Command{Use: "rm NAME…", Short: "Remove values", Args: cobra.MinimumNArgs(1), RunE: s.onKept(&shared, func(ctx context.Context, call appCall) error {
		response, err := call.Env.Remove(ctx, &maruv1.EnvServiceRemoveRequest{Scope: call.scope, Names: call.args, Ci: ci})
		return s.done(response, err, "removed "+strings.Join(call.args, ", "))
	})}
	c.PersistentFlags().BoolVar(&shared, "shared", false, "for all apps of the environment")
	c.PersistentFlags().BoolVar(&ci, "ci", false, "variables of workflows")
	c.AddCommand(set, list, remove, s.deleteEnvironmentCommand())
	return c
}
