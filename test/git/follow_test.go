package git

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/cgi" //nolint:gosec // the server is the test's own, and no proxy's header reaches it
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// TestFollow: what is pushed to a repository elsewhere is deployed here as soon as its webhook comes, previews too, and
// the states of its commits are told there.
func TestFollow(t *testing.T) {
	m := host.Start(t)
	c := begin(t, m)
	file := strings.ReplaceAll(compose, `"VERSION"`, `"one"`)
	file = strings.ReplaceAll(file, "health: /healthz", "health: /healthz\nx-maru:\n  environments:\n    production: {branch: main}\n    preview: {branch: \"*\", domain: \"*.preview.localhost\"}")
	c.write("compose.yaml", file)
	c.commit("Environments")
	root := t.TempDir()
	bare := filepath.Join(root, "ann", "shop.git")
	if out, err := exec.Command("git", "init", "--quiet", "--bare", "--initial-branch=main", bare).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	c.git("push", "--quiet", bare, "main")
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), InheritEnv: []string{"PATH"},
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	var mu sync.Mutex
	states := map[string]string{} // by commit and context
	mux := http.NewServeMux()
	mux.HandleFunc("/ann/", func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "t0ken" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /api/v1/repos/ann/shop/statuses/{commit}", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ State, Context string }
		if r.Header.Get("Authorization") != "token t0ken" || json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		states[r.PathValue("commit")+" "+body.Context] = body.State
		w.WriteHeader(http.StatusCreated)
	})
	forge := httptest.NewServer(mux)
	defer forge.Close()
	told := func(commit, context string) string {
		mu.Lock()
		defer mu.Unlock()
		return states[commit+" "+context]
	}

	c.setSecret("token", "t0ken", "production")
	c.setSecret("hook", "h00k", "production")
	out := c.Do(t, "repo", "follow", forge.URL+"/ann/shop.git", "--app", "shop", "--credentials", "token", "--webhook", "hook", "--forge", "gitea", "--every", "1h")
	shows(t, out, "shop follows "+forge.URL, "/git/-/hooks/default/shop")
	first := strings.TrimSpace(c.git("rev-parse", "HEAD"))
	host.Eventually(t, 2*time.Minute, "what is there when following begins", func() bool {
		return c.serves() == "one" && told(first, "maru/production") == "success"
	})
	if out, err := c.try("push", "maru", "HEAD:other"); err == nil {
		t.Errorf("a push to what follows another was taken:\n%s", out)
	} else {
		shows(t, out, "shop follows "+forge.URL)
	}

	// News, told by a webhook.
	c.write("compose.yaml", strings.ReplaceAll(file, `"one"`, `"two"`))
	second := c.commit("Two")
	c.git("push", "--quiet", bare, "main", "main:fix-1")
	body := `{"ref":"refs/heads/main"}`
	mac := hmac.New(sha256.New, []byte("h00k"))
	mac.Write([]byte(body))
	for signature, want := range map[string]int{strings.Repeat("0", 64): http.StatusForbidden, hex.EncodeToString(mac.Sum(nil)): http.StatusAccepted} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.HTTP+"/git/-/hooks/default/shop", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "localhost"
		request.Header.Set("X-Gitea-Signature", signature)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("the webhook is answered with %s, want %d", answer.Status, want)
		}
	}
	host.Eventually(t, 2*time.Minute, "what the webhook told of", func() bool {
		return c.serves() == "two" && told(second, "maru/production") == "success" && told(second, "maru/preview-fix-1") == "success"
	})
	c.git("push", "--quiet", bare, ":fix-1")
	c.Do(t, "repo", "follow", forge.URL+"/ann/shop.git", "--app", "shop", "--credentials", "token", "--forge", "gitea", "--every", "5s")
	host.Eventually(t, 2*time.Minute, "the end of the preview", func() bool { return c.of("fix-1") == "" })
	shows(t, c.Do(t, "repo", "--app", "shop"), "main", "production", "default, protected", "follows "+forge.URL)
}
