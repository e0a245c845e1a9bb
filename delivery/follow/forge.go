package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/marucloud/maru"
)

// forgeOf tells what kind of server a repository is at, and the address of its API. What people say goes before
// what the name of the host tells.
func forgeOf(to maru.Following) (forge maru.Forge, api string, err error) {
	u, err := url.Parse(to.URL)
	if err != nil {
		return "", "", maru.Errorf(maru.Invalid, "%q is no address", to.URL)
	}
	forge = to.Forge
	if forge == "" {
		switch host := u.Hostname(); {
		case host == "github.com":
			forge = maru.GitHub
		case host == "gitlab.com" || strings.HasPrefix(host, "gitlab."):
			forge = maru.GitLab
		case host == "codeberg.org" || strings.HasPrefix(host, "gitea.") || strings.HasPrefix(host, "forgejo."):
			forge = maru.Gitea
		default:
			forge = maru.GenericForge
		}
	}
	api = to.API
	base := u.Scheme + "://" + u.Host
	switch forge {
	case maru.GitHub:
		if api == "" && u.Hostname() == "github.com" {
			api = "https://api.github.com"
		} else if api == "" {
			api = base + "/api/v3" // GitHub Enterprise Server
		}
	case maru.GitLab:
		if api == "" {
			api = base + "/api/v4"
		}
	case maru.Gitea:
		if api == "" {
			api = base + "/api/v1"
		}
	case maru.GenericForge:
		if api != "" {
			return "", "", maru.WithHint(maru.Errorf(maru.Invalid, "the states of commits are told to GitHub, GitLab and Gitea only"), "say which it is: --forge gitea")
		}
		return forge, "", nil
	default:
		return "", "", maru.Errorf(maru.Invalid, "forge %q is unknown: it can be github, gitlab, gitea or generic", forge)
	}
	if to.Credentials == "" {
		return forge, "", nil // there is nothing to be known by
	}
	a, err := url.Parse(api)
	if err != nil || a.Scheme != "https" && a.Scheme != "http" || a.Host == "" || a.User != nil {
		return "", "", maru.Errorf(maru.Invalid, "%q is no address of an API", api)
	}
	return forge, strings.TrimRight(api, "/"), nil
}

// credentials takes a secret's value apart: USER:PASSWORD, or a token.
func credentials(forge maru.Forge, value string) (user, password string) {
	if user, password, ok := strings.Cut(value, ":"); ok {
		return user, password
	}
	if forge == maru.GitLab {
		return "oauth2", value
	}
	return "x-access-token", value
}

// state is how a run goes, as forges know it.
type state struct {
	Context     string // which of a commit's states: maru/ENVIRONMENT
	State       string // pending, success, failure, error
	Description string
}

// longestDescription is of a commit's state, in characters: GitHub's limit.
const longestDescription = 140

// stateOf tells a run's state.
func stateOf(run maru.Run) state {
	s := state{Context: "maru/" + run.Scope.Environment, State: "pending"}
	switch run.Phase {
	case maru.RunSucceeded:
		s.State, s.Description = "success", "deployed to "+run.Scope.Environment
	case maru.RunFailed, maru.RunRolledBack:
		s.State, s.Description = "failure", string(run.Phase)+": "+run.Reason
	case maru.RunCancelled, maru.RunSuperseded:
		s.State, s.Description = "error", string(run.Phase)+": "+run.Reason
	case maru.RunWaiting:
		s.Description = "waits for approval"
	default:
		s.Description = string(run.Phase)
	}
	line, _, _ := strings.Cut(s.Description, "\n")
	letters := []rune(line)
	s.Description = string(letters[:min(len(letters), longestDescription)])
	return s
}

// errRefused is an answer that another try would not change.
var errRefused = errors.New("the forge refuses it")

// tell sets the state of a commit at the forge.
//
//   - GitHub: https://docs.github.com/en/rest/commits/statuses
//   - GitLab: https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
//   - Gitea: POST /repos/{owner}/{repo}/statuses/{sha}, as GitHub's
func (f *Follower) tell(ctx context.Context, to maru.Following, token, commit string, s state) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.cfg.Timeout, maru.Errorf(maru.Unavailable, "the forge does not answer"))
	defer cancel()
	u, err := url.Parse(to.URL)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	path := strings.TrimSuffix(strings.Trim(u.EscapedPath(), "/"), ".git")
	var address string
	body := map[string]string{"state": s.State, "description": s.Description}
	header := http.Header{"Content-Type": {"application/json"}}
	switch to.Forge {
	case maru.GitLab:
		name, err := url.PathUnescape(path)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		address = to.API + "/projects/" + url.PathEscape(name) + "/statuses/" + commit
		body["name"] = s.Context
		body["state"] = map[string]string{"pending": "running", "success": "success", "failure": "failed", "error": "canceled"}[s.State]
		header.Set("PRIVATE-TOKEN", token)
	case maru.GitHub:
		address = to.API + "/repos/" + path + "/statuses/" + commit
		body["context"] = s.Context
		header.Set("Authorization", "Bearer "+token)
		header.Set("Accept", "application/vnd.github+json")
		header.Set("X-GitHub-Api-Version", "2022-11-28")
	case maru.Gitea:
		address = to.API + "/repos/" + path + "/statuses/" + commit
		body["context"] = s.Context
		header.Set("Authorization", "token "+token)
	default:
		return fmt.Errorf("%w: %s", errRefused, to.Forge)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	request.Header = header
	answer, err := f.cfg.Client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
	switch {
	case answer.StatusCode < 300:
		return nil
	case answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("%s answers %s", address, answer.Status)
	}
	return fmt.Errorf("%w: %s answers %s: %s", errRefused, address, answer.Status, bytes.TrimSpace(text))
}
