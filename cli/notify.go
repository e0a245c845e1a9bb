package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
)

func (s *shell) notifyCommand() *cobra.Command {
	c := &cobra.Command{Use: "notify", Short: "Have people and programs told of failed runs, rollbacks and the like", Args: cobra.NoArgs,
		Long: `Notify keeps receivers: webhooks that take CloudEvents, Slack's incoming webhooks, and e-mail addresses. A receiver is
told of what happens in the scope that --project, --env and --app name; what is not given is not limited.`,
		Example: "  maru notify add ops --slack - < slack-url\n  maru notify add ci --webhook https://ci.example.com/maru --topic failed-runs --app shop\n  maru notify add team --email team@example.com --from maru@example.com --smtp smtp://maru@mail.example.com --password-file -\n  maru notify test ops\n  maru notify ls\n  maru notify rm ops"}
	c.AddCommand(s.notifyAdd(), s.notifyList(),
		s.onReceiver("rm", "Remove a receiver", func(ctx context.Context, c *client.Client, scope *maruv1.Scope, name string) error {
			_, err := c.Notify.Remove(ctx, &maruv1.NotifyServiceRemoveRequest{Scope: scope, Name: name})
			return err
		}),
		s.onReceiver("test", "Tell a receiver something at once, and say how that went", func(ctx context.Context, c *client.Client, scope *maruv1.Scope, name string) error {
			_, err := c.Notify.Test(ctx, &maruv1.NotifyServiceTestRequest{Scope: scope, Name: name})
			if err == nil && s.output != "json" {
				fmt.Fprintln(s.Stdout, "sent")
			}
			return err
		}))
	return c
}

// onReceiver makes a command that is about one receiver.
func (s *shell) onReceiver(use, short string, run func(ctx context.Context, c *client.Client, scope *maruv1.Scope, name string) error) *cobra.Command {
	return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			return run(c.Context(), connected, s.pattern(), args[0])
		}}
}

// receiverFlags say where a receiver is.
type receiverFlags struct {
	webhook, secretFile, slack string
	email                      []string
	from, smtp, passwordFile   string
	topics                     []string
	private                    bool
}

func (s *shell) notifyAdd() *cobra.Command {
	var f receiverFlags
	c := &cobra.Command{Use: "add NAME", Short: "Add a receiver, or replace the one of that name", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Add keeps a receiver. Topics are failed-runs, rollbacks, held-rollouts, approvals and crash-loops, all of which it is told of
unless --topic says which, and events, which is everything. A webhook's messages are signed; the key is shown once,
unless --secret-file has it. Addresses on the server's machine or in private networks need --private, and a token
without a scope.`,
		RunE: func(c *cobra.Command, args []string) error {
			request := &maruv1.NotifyServiceAddRequest{Scope: s.pattern(), Name: args[0], Topics: f.topics, Private: f.private}
			if err := s.receiverTarget(f, request); err != nil {
				return err
			}
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Notify.Add(c.Context(), request)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			r := response.Receiver
			fmt.Fprintf(s.Stdout, "%s at %s is told of %s\n", r.Name, r.Address, strings.Join(r.Topics, ", "))
			if response.Secret != "" {
				fmt.Fprintf(s.Stdout, "its messages are signed with %s\n", response.Secret)
			}
			return nil
		}}
	flags := c.Flags()
	flags.StringVar(&f.webhook, "webhook", "", "URL that takes CloudEvents; - is standard input")
	flags.StringVar(&f.secretFile, "secret-file", "", "file with the key of its signatures (whsec_…); default: one is made")
	flags.StringVar(&f.slack, "slack", "", "URL of an incoming webhook of Slack, or of what takes the same; - is standard input")
	flags.StringSliceVar(&f.email, "email", nil, "e-mail address; may be given several times")
	flags.StringVar(&f.from, "from", "", "sender of the e-mail")
	flags.StringVar(&f.smtp, "smtp", "", "mail server: smtp://[USER@]HOST[:PORT], or smtps:// for TLS from the start")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with the password at the mail server; - is standard input")
	flags.StringSliceVar(&f.topics, "topic", nil, "what to be told of; may be given several times")
	flags.BoolVar(&f.private, "private", false, "permit an address on the server's machine or in a private network")
	c.MarkFlagsOneRequired("webhook", "slack", "email")
	c.MarkFlagsMutuallyExclusive("webhook", "slack", "email")
	c.MarkFlagsRequiredTogether("email", "from", "smtp")
	var topics []string
	for _, topic := range maru.Topics() {
		topics = append(topics, string(topic))
	}
	_ = c.RegisterFlagCompletionFunc("topic", cobra.FixedCompletions(topics, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// receiverTarget puts where a receiver is into the request.
func (s *shell) receiverTarget(f receiverFlags, request *maruv1.NotifyServiceAddRequest) error {
	line := func(what, value string) (string, error) {
		data, err := s.readValue(what, value)
		return strings.TrimSpace(string(data)), err
	}
	address := func(what, value string) (string, error) {
		if value != "-" {
			return value, nil
		}
		return line(what, value)
	}
	var err error
	switch {
	case f.webhook != "":
		hook := &maruv1.Webhook{}
		if hook.Url, err = address("the URL", f.webhook); err == nil && f.secretFile != "" {
			hook.Secret, err = line("the secret", f.secretFile)
		}
		request.Target = &maruv1.NotifyServiceAddRequest_Webhook{Webhook: hook}
	case f.slack != "":
		hook := &maruv1.SlackWebhook{}
		hook.Url, err = address("the URL", f.slack)
		request.Target = &maruv1.NotifyServiceAddRequest_Slack{Slack: hook}
	default:
		email := &maruv1.Email{To: f.email, From: f.from, Server: f.smtp}
		if f.passwordFile != "" {
			email.Password, err = line("the password", f.passwordFile)
		}
		request.Target = &maruv1.NotifyServiceAddRequest_Email{Email: email}
	}
	return err
}

func (s *shell) notifyList() *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List receivers, and how their notifications fare", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Notify.List(c.Context(), &maruv1.NotifyServiceListRequest{Scope: s.pattern()})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			t := s.table("NAME", "KIND", "ADDRESS", "SCOPE", "TOPICS", "WAITING", "GIVEN UP", "ERROR")
			for _, r := range response.Receivers {
				t.row(r.Name, r.Kind, r.Address, pattern(r.Scope), strings.Join(r.Topics, " "), fmt.Sprint(r.Waiting), fmt.Sprint(r.GivenUp), orDash(r.Error))
			}
			return t.flush()
		}}
}
