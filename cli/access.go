package cli

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/internal/truststore"
)

// authorityName is that of Maru's local authority in the stores of a machine.
const authorityName = "maru-local-authority"

func (s *shell) loginCommand() *cobra.Command {
	var name string
	c := &cobra.Command{Use: "login", Short: "Get the first token, on the machine itself", Args: cobra.NoArgs,
		Long: `Login makes a token for the administrator who is logged in on the machine where Maru runs, and prints it
with the command that makes another machine know it. On the machine itself no token is needed: there the
server knows its callers by their user.`,
		Example: "  sudo maru login",
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			if name == "" {
				name = "admin"
				if who, err := user.Current(); err == nil {
					name = who.Username
				}
			}
			made, err := connected.Access.CreateToken(c.Context(), &maruv1.CreateTokenRequest{Name: name, Role: "admin"})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(made)
			}
			fmt.Fprintf(s.Stdout, `%s

It is shown this once. From another machine:

  maru context add NAME --url https://HOST:6278 --token %s --authority ca.pem

where 'maru trust --print' here writes ca.pem.
`, made.Secret, made.Secret)
			return nil
		}}
	c.Flags().StringVar(&name, "name", "", "name of the token (default: this user's)")
	return c
}

func (s *shell) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Create, list and revoke tokens", Args: cobra.NoArgs,
		Example: "  maru token create ci --role deploy --app shop --env staging --ttl 2160h\n  maru token ls\n  maru token revoke ci"}
	var role string
	var ttl time.Duration
	var keys []string
	create := &cobra.Command{Use: "create NAME", Short: "Create a token", Args: cobra.ExactArgs(1),
		Long: `Create makes a token for the scope that --project, --env and --app name; what is not given is not limited.
With --ssh-key the owner of that key gets at Git repositories by SSH as the token's holder.`,
		Example: "  maru token create ci --role deploy --app shop\n  maru token create ann --ssh-key ~/.ssh/id_ed25519.pub",
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			request := &maruv1.CreateTokenRequest{Name: args[0], Role: role, Scope: s.pattern()}
			if ttl > 0 {
				request.Ttl = durationpb.New(ttl)
			}
			if request.SshKeys, err = readKeys(keys); err != nil {
				return err
			}
			made, err := connected.Access.CreateToken(c.Context(), request)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(made)
			}
			fmt.Fprintln(s.Stdout, made.Secret)
			return nil
		}}
	create.Flags().StringVar(&role, "role", "deploy", "read, deploy or admin")
	create.Flags().DurationVar(&ttl, "ttl", 0, "how long it lives (default: until revoked)")
	create.Flags().StringArrayVar(&keys, "ssh-key", nil, "file with a public key, such as ~/.ssh/id_ed25519.pub; may be repeated")
	list := &cobra.Command{Use: "ls", Short: "List tokens", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		response, err := connected.Access.ListTokens(c.Context(), &maruv1.ListTokensRequest{})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		t := s.table("NAME", "ID", "ROLE", "SCOPE", "CREATED", "LAST USED", "EXPIRES")
		for _, token := range response.Tokens {
			expires := "never"
			if token.Expires != nil {
				expires = token.Expires.AsTime().Local().Format("2006-01-02 15:04")
			}
			t.row(token.Name, token.Id, token.Role, pattern(token.Scope), ago(token.Created), ago(token.LastUsed), expires)
		}
		return t.flush()
	}}
	revoke := &cobra.Command{Use: "revoke NAME|ID", Short: "End a token at once", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		response, err := connected.Access.RevokeToken(c.Context(), &maruv1.RevokeTokenRequest{Id: args[0]})
		return s.done(response, err, "revoked "+args[0])
	}}
	c.AddCommand(create, list, revoke)
	return c
}

// readKeys gives the lines of files as authorized_keys.
func readKeys(files []string) ([]string, error) {
	var keys []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "read the SSH key: %w", err)
		}
		if strings.Contains(string(data), "PRIVATE KEY") {
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "%s is a private key, which nobody else should have", file), "give the file beside it: "+file+".pub")
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

// pattern is the scope that the flags name; what is not given matches all.
func (s *shell) pattern() *maruv1.Scope {
	return &maruv1.Scope{Project: s.project, Environment: s.environment, App: s.app}
}

func pattern(scope *maruv1.Scope) string {
	star := func(part string) string {
		if part == "" {
			return "*"
		}
		return part
	}
	return star(scope.GetProject()) + "/" + star(scope.GetEnvironment()) + "/" + star(scope.GetApp())
}

func (s *shell) grantCommand() *cobra.Command {
	c := &cobra.Command{Use: "grant ABILITY…", Short: "Let apps have something of the host",
		Long: `Grant lets the apps of a scope (--project, --env, --app; what is not given matches all) reach into the host:

  bind:/PATH      mount a folder of the host, or what is below it
  device:/dev/X   use a device
  cap:NAME        have a capability beyond the default ones
  hostnet         share the host's network
  privileged      have no isolation at all
  host            everything above: for a machine with a single user

Without a grant, a deploy that needs one is refused, and says which.`,
		Example: "  maru grant bind:/srv/media --app jellyfin\n  maru grant host           # a machine with a single user\n  maru grant ls\n  maru grant rm bind:/srv/media --app jellyfin",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Access.AddGrants(c.Context(), &maruv1.AddGrantsRequest{Scope: s.pattern(), Abilities: args})
			return s.done(response, err, fmt.Sprintf("granted %s to %s", strings.Join(args, ", "), pattern(s.pattern())))
		}}
	list := &cobra.Command{Use: "ls", Short: "List grants", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		connected, err := s.connect()
		if err != nil {
			return err
		}
		response, err := connected.Access.ListGrants(c.Context(), &maruv1.ListGrantsRequest{})
		if err != nil {
			return err
		}
		if s.output == "json" {
			return s.printMessage(response)
		}
		t := s.table("ABILITY", "SCOPE", "CREATED", "BY")
		for _, g := range response.Grants {
			t.row(g.Ability, pattern(g.Scope), ago(g.Created), g.By)
		}
		return t.flush()
	}}
	remove := &cobra.Command{Use: "rm ABILITY…", Short: "Take grants back; what runs goes on, the next deploy is refused", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Access.RemoveGrants(c.Context(), &maruv1.RemoveGrantsRequest{Scope: s.pattern(), Abilities: args})
			return s.done(response, err, fmt.Sprintf("%s no longer has %s", pattern(s.pattern()), strings.Join(args, ", ")))
		}}
	c.AddCommand(list, remove)
	return c
}

func (s *shell) trustCommand() *cobra.Command {
	var print, undo bool
	c := &cobra.Command{Use: "trust", Short: "Make browsers here trust Maru's local certificate authority", Args: cobra.NoArgs,
		Long: `Trust puts the certificate of Maru's local authority, which signs those for *.localhost, where this
machine's programs and browsers look. --undo takes it out again.`,
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.System.Authority(c.Context(), &maruv1.AuthorityRequest{})
			if err != nil {
				return err
			}
			if print {
				_, err := s.Stdout.Write(response.Certificate)
				return err
			}
			store := truststore.New(truststore.Config{})
			var report truststore.Report
			did := "trusted by"
			if undo {
				did = "taken out of"
				report, err = store.Remove(c.Context(), authorityName)
			} else {
				report, err = store.Install(c.Context(), authorityName, response.Certificate)
			}
			if err != nil {
				return err
			}
			for _, place := range report.Done {
				fmt.Fprintf(s.Stdout, "%s %s (%s)\n", did, place.Name, place.Path)
			}
			return report.Err()
		}}
	c.Flags().BoolVar(&print, "print", false, "only print the certificate")
	c.Flags().BoolVar(&undo, "undo", false, "take it out again")
	return c
}
