// Package endtoend runs Maru as its users do: the program, real containers, real requests. All of it
// happens in a network and mount namespace that the tests make for themselves.
package endtoend

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

func TestMain(m *testing.M) {
	inside, code := host.Enter(fetchGo)
	if inside {
		code = m.Run()
	}
	os.Exit(code)
}

// machine is an installation of Maru with shorter ways to ask it.
type machine struct{ *host.Machine }

// start runs a new installation of Maru for the test, and removes it afterwards.
func start(t *testing.T, environment ...string) *machine {
	t.Helper()
	return &machine{host.Start(t, environment...)}
}

// maru runs a command and gives its standard output; it fails the test when the command fails.
func (m *machine) maru(t *testing.T, args ...string) string {
	t.Helper()
	return m.Do(t, args...)
}

// try runs a command and gives what it wrote and its exit code.
func (m *machine) try(t *testing.T, args ...string) (out, complaints string, code int) {
	t.Helper()
	result, err := m.Run(t.Context(), args...)
	if err != nil && result.Code <= 0 {
		t.Fatal(err)
	}
	return result.Out, result.Err, result.Code
}

// deploy writes the compose file and deploys it.
func (m *machine) deploy(t *testing.T, compose string, args ...string) string {
	t.Helper()
	return m.maru(t, append([]string{"deploy", "-f", writeCompose(t, compose)}, args...)...)
}

func writeCompose(t *testing.T, compose string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(path, []byte(compose), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeFile makes a file with the content and gives its path.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// status asks how an app is.
func (m *machine) status(t *testing.T, app string) host.Status {
	t.Helper()
	s, err := m.Status(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks the gateway and gives status and body.
func (m *machine) get(t *testing.T, host, path string) (int, string) {
	t.Helper()
	return m.do(t, http.MethodGet, host, path)
}

func (m *machine) do(t *testing.T, method, host, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+m.HTTP+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// who asks the service behind a host who answers.
func (m *machine) who(t *testing.T, host string) map[string]string {
	t.Helper()
	status, body := m.get(t, host, "/")
	var who map[string]string
	if err := json.Unmarshal([]byte(body), &who); status != 200 || err != nil {
		t.Fatalf("%s answers %d: %s", host, status, body)
	}
	return who
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	within(t, time.Minute, what, condition)
}

// within waits until the condition holds, at most that long.
func within(t *testing.T, patience time.Duration, what string, condition func() bool) {
	t.Helper()
	host.Eventually(t, patience, what, condition)
}
