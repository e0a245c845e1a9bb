package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/client"
)

// localContext is the server of this machine, which needs no entry.
const localContext = "local"

// defaultSocket is where a server that was installed system-wide listens.
const defaultSocket = "/run/maru/server.sock"

// settings are the servers that this user knows.
type settings struct {
	Current  string            `json:"current,omitempty"`
	Contexts map[string]server `json:"contexts,omitempty"`
}

// server is how to reach one.
type server struct {
	URL       string `json:"url,omitempty"`
	Socket    string `json:"socket,omitempty"`
	Token     string `json:"token,omitempty"`
	Authority string `json:"authority,omitempty"` // PEM
}

func (s *shell) settingsPath() (string, error) {
	if path := s.Getenv("MARU_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "find the folder for settings: %w", err), "set MARU_CONFIG to a file")
	}
	return filepath.Join(dir, "maru", "config.json"), nil
}

func (s *shell) readSettings() (settings, error) {
	read := settings{Contexts: map[string]server{}}
	path, err := s.settingsPath()
	if err != nil {
		return read, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return read, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &read)
	}
	if err != nil {
		return read, maru.WithHint(maru.Errorf(maru.Invalid, "read settings %s: %w", path, err), "mend or remove the file")
	}
	if read.Contexts == nil {
		read.Contexts = map[string]server{}
	}
	return read, nil
}

func (s *shell) writeSettings(all settings) error {
	path, err := s.settingsPath()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return maru.Errorf(maru.Invalid, "write settings: %w", err)
	}
	// It has tokens. Renamed into place, so that a full disk never leaves half of it.
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return maru.Errorf(maru.Invalid, "write settings: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return maru.Errorf(maru.Invalid, "write settings: %w", err)
	}
	return nil
}

// target tells which server the command talks to.
func (s *shell) target() (server, string, error) {
	if s.contextName == "" {
		if socket := s.Getenv("MARU_SOCKET"); socket != "" {
			return server{Socket: socket}, localContext, nil
		}
		if url := s.Getenv("MARU_URL"); url != "" {
			return server{URL: url, Token: s.Getenv("MARU_TOKEN")}, url, nil
		}
	}
	all, err := s.readSettings()
	if err != nil {
		return server{}, "", err
	}
	name := s.contextName
	if name == "" {
		name = all.Current
	}
	if found, ok := all.Contexts[name]; ok {
		return found, name, nil
	}
	if name == "" || name == localContext {
		return server{Socket: defaultSocket}, localContext, nil
	}
	return server{}, "", maru.WithHint(maru.Errorf(maru.NotFound, "there is no context %q", name), "'maru context ls' shows those there are")
}

// connect gives the client of the server that the command talks to.
func (s *shell) connect() (*client.Client, error) {
	if s.opened != nil {
		return s.opened, nil
	}
	to, _, err := s.target()
	if err != nil {
		return nil, err
	}
	s.opened, err = client.New(client.Options{Socket: to.Socket, URL: to.URL, Token: to.Token, Authority: []byte(to.Authority), Agent: "maru/" + s.Version})
	return s.opened, err
}

func (s *shell) contextCommand() *cobra.Command {
	c := &cobra.Command{Use: "context", Short: "Choose which server to talk to", Args: cobra.NoArgs,
		Example: `  maru context add work --url https://maru.example.com:6278 --token maru_… --authority ca.pem
  maru context use work
  maru context ls`}
	c.AddCommand(s.contextListCommand(), s.contextUseCommand(), s.contextAddCommand(), s.contextRemoveCommand())
	return c
}

func (s *shell) contextListCommand() *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List the servers that are known", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		all, err := s.readSettings()
		if err != nil {
			return err
		}
		_, current, err := s.target()
		if err != nil {
			return err
		}
		type row struct {
			Name    string `json:"name"`
			Address string `json:"address"`
			Current bool   `json:"current"`
		}
		var rows []row
		if _, ok := all.Contexts[localContext]; !ok {
			rows = append(rows, row{localContext, defaultSocket, current == localContext})
		}
		for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
			to := all.Contexts[name]
			rows = append(rows, row{name, to.URL + to.Socket, name == current})
		}
		if s.output == "json" {
			return s.printJSON(rows)
		}
		t := s.table("", "NAME", "ADDRESS")
		for _, r := range rows {
			mark := ""
			if r.Current {
				mark = "*"
			}
			t.row(mark, r.Name, r.Address)
		}
		return t.flush()
	}}
}

func (s *shell) contextUseCommand() *cobra.Command {
	return &cobra.Command{Use: "use NAME", Short: "Talk to this server from now on", Args: cobra.ExactArgs(1), ValidArgsFunction: s.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := s.readSettings()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok && args[0] != localContext {
				return maru.WithHint(maru.Errorf(maru.NotFound, "there is no context %q", args[0]), "'maru context ls' shows those there are")
			}
			all.Current = args[0]
			return s.writeSettings(all)
		}}
}

func (s *shell) contextAddCommand() *cobra.Command {
	var to server
	var authority string
	c := &cobra.Command{Use: "add NAME", Short: "Add a server, or change how it is reached", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if (to.URL == "") == (to.Socket == "") {
				return misuse{errors.New("give either --url with --token, or --socket")}
			}
			if authority != "" {
				pem, err := os.ReadFile(authority)
				if err != nil {
					return maru.Errorf(maru.Invalid, "read the authority: %w", err)
				}
				to.Authority = string(pem)
			}
			if _, err := client.New(client.Options{Socket: to.Socket, URL: to.URL, Token: to.Token, Authority: []byte(to.Authority)}); err != nil {
				return err
			}
			all, err := s.readSettings()
			if err != nil {
				return err
			}
			all.Contexts[args[0]] = to
			if all.Current == "" {
				all.Current = args[0]
			}
			if err := s.writeSettings(all); err != nil {
				return err
			}
			fmt.Fprintf(s.Stdout, "added %s\n", args[0])
			return nil
		}}
	c.Flags().StringVar(&to.URL, "url", "", "address, such as https://maru.example.com:6278")
	c.Flags().StringVar(&to.Token, "token", "", "token, as 'maru login' or 'maru token create' printed it")
	c.Flags().StringVar(&to.Socket, "socket", "", "unix socket of a server on this machine")
	c.Flags().StringVar(&authority, "authority", "", "PEM file of the authority that signed the server's certificate ('maru trust --print' there)")
	return c
}

func (s *shell) contextRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Forget a server", Args: cobra.ExactArgs(1), ValidArgsFunction: s.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := s.readSettings()
			if err != nil {
				return err
			}
			if _, ok := all.Contexts[args[0]]; !ok {
				return maru.Errorf(maru.NotFound, "there is no context %q", args[0])
			}
			delete(all.Contexts, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			return s.writeSettings(all)
		}}
}

func (s *shell) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := s.readSettings()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return append([]string{localContext}, slices.Sorted(maps.Keys(all.Contexts))...), cobra.ShellCompDirectiveNoFileComp
}

// isCobra tells whether the error is of cobra's own checks of commands and arguments.
func isCobra(err error) bool {
	text := err.Error()
	for _, start := range []string{"unknown command", "accepts ", "requires ", "unknown flag", "unknown shorthand", "invalid argument", "required flag", "if any flags in the group", "flag needs"} {
		if strings.HasPrefix(text, start) {
			return true
		}
	}
	return false
}
