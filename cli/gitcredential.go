package cli

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// gitCredentialCommand gives git the token of the context, for the context's server and nobody else
// (gitcredentials(7)).
func (s *shell) gitCredentialCommand() *cobra.Command {
	return &cobra.Command{Use: "git-credential get|store|erase", Short: "Give git the token of the context, as a credential helper",
		Long: `Git-credential is a credential helper for git. It gives the token of the context for addresses at the
context's server, and says nothing of others. It keeps nothing: store and erase do nothing.`,
		Example: "  git config --global credential.helper '!maru git-credential'",
		Args:    cobra.ExactArgs(1), ValidArgs: []string{"get", "store", "erase"},
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] != "get" {
				return nil
			}
			asked := map[string]string{}
			lines := bufio.NewScanner(s.Stdin)
			for lines.Scan() && lines.Text() != "" {
				name, value, _ := strings.Cut(lines.Text(), "=")
				asked[name] = value
			}
			if err := lines.Err(); err != nil {
				return err
			}
			server, _, err := s.target()
			if err != nil {
				return err
			}
			if server.Token == "" || !sameHost(server.URL, asked["protocol"], asked["host"]) {
				return nil
			}
			_, err = fmt.Fprintf(s.Stdout, "username=maru\npassword=%s\n", server.Token)
			return err
		}}
}

// sameHost tells whether git asks for the server, at whatever port, and not over a network in the clear.
func sameHost(server, protocol, host string) bool {
	u, err := url.Parse(server)
	if name, _, splitErr := net.SplitHostPort(host); splitErr == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if err != nil || host == "" || !strings.EqualFold(u.Hostname(), host) {
		return false
	}
	ip := net.ParseIP(host)
	return protocol == "https" || host == "localhost" || ip != nil && ip.IsLoopback()
}
