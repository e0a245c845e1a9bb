package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/compose"
)

// Exit codes.
const (
	exitDone       = 0
	exitFailed     = 1
	exitMisused    = 2
	exitRolledBack = 3
)

// Env is what the commands have of the world around them.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Environ        func() []string
	Version        string
}

// shell is one run of the program: its surroundings, and the flags that all commands share.
type shell struct {
	Env
	project, environment, app string
	contextName               string
	output                    string // text, json
	files                     []string
	profiles                  []string
	envFiles                  []string
	quiet                     bool
	opened                    *client.Client
}

// New makes the root command with all commands that talk to a server.
func New(env Env) *cobra.Command {
	s := &shell{Env: env}
	root := &cobra.Command{
		Use:   "maru",
		Short: "The whole cloud-native stack as one program",
		Long: `Maru takes a compose.yaml and runs it: builds the images, starts the services in isolated containers,
finds them by name, leads requests to them, heals what falls over, and goes back when a release is bad.`,
		Example: `  maru start                 # once, as root: run the platform on this machine
  maru deploy                # from the folder of a compose.yaml
  maru status                # what runs, and what is wrong
  maru logs -f web`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return s.checkOutput() },
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	root.AddGroup(
		&cobra.Group{ID: "deploy", Title: "Deploy:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "operate", Title: "Operate:"},
		&cobra.Group{ID: "keep", Title: "Keep:"},
		&cobra.Group{ID: "access", Title: "Access:"},
		&cobra.Group{ID: "platform", Title: "Platform:"},
	)
	s.globalFlags(root)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"deploy", []*cobra.Command{s.deployCommand(), s.devCommand(), s.checkCommand(), s.planCommand(), s.promoteCommand(), s.abortCommand(), s.approveCommand(), s.rolloutCommand(), s.rollbackCommand(), s.runsCommand(), s.repositoryCommand(), s.ciCommand(), s.schemaCommand()}},
		{"look", []*cobra.Command{s.psCommand(), s.statusCommand(), s.logsCommand(), s.eventsCommand(), s.releasesCommand(), s.routesCommand(), s.topCommand(), s.doraCommand()}},
		{"operate", []*cobra.Command{s.scaleCommand(), s.restartCommand(), s.stopCommand(), s.removeCommand(), s.execCommand(), s.runCommand(), s.forwardCommand()}},
		{"keep", []*cobra.Command{s.secretCommand(), s.configCommand(), s.envCommand(), s.certificateCommand(), s.volumeCommand(), s.imageCommand(), s.backupCommand(), s.restoreCommand()}},
		{"access", []*cobra.Command{s.loginCommand(), s.tokenCommand(), s.grantCommand(), s.notifyCommand(), s.trustCommand(), s.gitCredentialCommand(), s.contextCommand()}},
	} {
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	version := s.versionCommand()
	version.GroupID = "platform"
	root.AddCommand(version)
	root.SetHelpCommandGroupID("platform")
	root.SetCompletionCommandGroupID("platform")
	return root
}

func (s *shell) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&s.project, "project", s.Getenv("MARU_PROJECT"), "project (default \"default\")")
	flags.StringVar(&s.environment, "env", s.Getenv("MARU_ENVIRONMENT"), "environment (default \"production\")")
	flags.StringVar(&s.app, "app", s.Getenv("MARU_APP"), "app (default: that of the compose file here, or the only one there is)")
	flags.StringVar(&s.contextName, "context", s.Getenv("MARU_CONTEXT"), "server to talk to, as 'maru context ls' names it")
	flags.StringVarP(&s.output, "output", "o", "text", "text or json")
	flags.StringArrayVarP(&s.files, "file", "f", nil, "compose file; may be repeated, later ones over earlier ones")
	flags.StringArrayVar(&s.profiles, "profile", nil, "compose profile to enable; may be repeated")
	flags.StringArrayVar(&s.envFiles, "env-file", nil, "file with values for ${VAR} (default .env beside the compose file)")
	flags.BoolVarP(&s.quiet, "quiet", "q", false, "no progress")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("context", s.completeContexts)
	_ = root.RegisterFlagCompletionFunc("app", s.completeApps)
}

func (s *shell) checkOutput() error {
	if s.output != "text" && s.output != "json" {
		return misuse{maru.WithHint(fmt.Errorf("output %q is not known", s.output), "use -o text or -o json")}
	}
	return nil
}

// misuse is a command that was typed wrongly.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// Execute runs the command that the arguments name, shows its error, and gives the exit code.
func Execute(ctx context.Context, root *cobra.Command, args ...string) int {
	if args != nil {
		root.SetArgs(args)
	}
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var exit exitCode
	if errors.As(err, &exit) {
		return int(exit)
	}
	showError(root.ErrOrStderr(), ran, err)
	var failed failedWith
	if errors.As(err, &failed) {
		return int(failed.code)
	}
	switch {
	case isMisuse(err):
		return exitMisused
	case maru.KindOf(err) == maru.RolledBack:
		return exitRolledBack
	}
	return exitFailed
}

// exitCode ends the program with the code of a command that ran elsewhere.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// failedWith is an error with an exit code of its own.
type failedWith struct {
	error
	code exitCode
}

func (f failedWith) Unwrap() error { return f.error }

// isMisuse also knows cobra's own errors, which are the only ones here without a kind.
func isMisuse(err error) bool {
	var m misuse
	var own *maru.Error
	return errors.As(err, &m) || !errors.As(err, &own) && isCobra(err)
}

func showError(w io.Writer, ran *cobra.Command, err error) {
	style := styles(w)
	var issues *compose.Issues
	if errors.As(err, &issues) {
		for _, i := range issues.All {
			fmt.Fprintf(w, "%s %s\n", style.bad("error:"), i)
			if i.Hint != "" {
				fmt.Fprintf(w, "  %s %s\n", style.dim("hint:"), i.Hint)
			}
		}
		return
	}
	fmt.Fprintf(w, "%s %v\n", style.bad("error:"), err)
	hint := maru.HintOf(err)
	if hint == "" && isMisuse(err) {
		hint = fmt.Sprintf("'%s --help' shows how it is used", ran.CommandPath())
	}
	if hint != "" {
		fmt.Fprintf(w, "%s %s\n", style.dim("hint:"), hint)
	}
}

func (s *shell) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the versions of this program and of the server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versions{Client: s.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if connected, err := s.connect(); err == nil {
				if info, err := connected.System.Info(c.Context(), nil); err == nil {
					v.Server = info.Version
				}
			}
			if s.output == "json" {
				return s.printJSON(v)
			}
			server := v.Server
			if server == "" {
				server = "no server answers"
			}
			fmt.Fprintf(s.Stdout, "maru   %s (%s, %s)\nserver %s\n", v.Client, v.Go, v.Platform, server)
			return nil
		}}
}

type versions struct {
	Client   string `json:"client"`
	Server   string `json:"server,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}
