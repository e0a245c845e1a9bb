package git

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

// TestTakenBack: what was rolled back does not come back by the next push, its revert is offered, the figures count
// it, and who wants to hear of it is told, also when the server is killed.
func TestTakenBack(t *testing.T) {
	c := begin(t, host.Start(t))
	var mu sync.Mutex
	var told []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,") {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, string(body))
		}
	}))
	defer hook.Close()
	c.Do(t, "notify", "add", "ops", "--webhook", hook.URL, "--private")
	c.Do(t, "notify", "test", "ops")

	c.git("push", "maru", "main")
	c.version("two")
	bad := c.commit("The second version")
	c.git("push", "maru", "main")
	c.Do(t, "rollback", "--app", "shop")
	if _, err := c.Kill("server"); err != nil {
		t.Fatal(err)
	}
	host.Eventually(t, time.Minute, "the first version serves again", func() bool { return c.serves() == "one" })
	var status string
	host.Eventually(t, time.Minute, "the status says how environment and branch differ", func() bool {
		result, err := c.Run(t.Context(), "status", "--app", "shop")
		status = result.Out
		return err == nil && strings.Contains(status, "revert/"+bad[:12])
	})
	shows(t, status, "git: production runs ", "(rollout 1), and the branch main is at "+bad[:12]+", which was taken back in production by")
	host.Eventually(t, time.Minute, "the receiver is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(strings.Join(told, "\n"), `"type":"io.github.marucloud.maru.rollout-started"`)
	})

	c.git("commit", "--quiet", "--amend", "-m", "The second version, in silence")
	out, err := c.try("push", "maru", "HEAD:other", "-o", "environment=production")
	if err == nil {
		t.Error("it was pushed")
	}
	shows(t, out, "taken back in production by", "git push -o again", "remote rejected")
	c.git("reset", "--quiet", "--hard", bad)
	c.write("notes", "nothing to do with it")
	c.git("add", "notes")
	c.commit("Notes")
	shows(t, c.git("push", "maru", "main"), "waits for approval: it still has all of "+bad[:12])
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}

	c.git("fetch", "--quiet", "maru")
	c.git("merge", "--quiet", "--no-edit", "maru/revert/"+bad[:12])
	shows(t, c.git("push", "maru", "main"), "note: it has later changes to what was changed by "+bad[:12])
	if got := c.serves(); got != "one" {
		t.Errorf("%q serves", got)
	}
	if status := c.Do(t, "status", "--app", "shop"); strings.Contains(status, "git: ") {
		t.Errorf("they differ still:\n%s", status)
	}
	var figures struct {
		Apps []struct {
			Total struct {
				Deployments, Failed int
				LeadTime            struct{ Count int }
			}
		}
	}
	text := c.Do(t, "dora", "--app", "shop", "-o", "json")
	if err := json.Unmarshal([]byte(text), &figures); err != nil || len(figures.Apps) != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	if f := figures.Apps[0].Total; f.Deployments < 2 || f.Failed != 1 || f.LeadTime.Count < 2 {
		t.Errorf("the figures are %s", text)
	}
	t.Logf("\n%s\n%s\n%s", status, c.Do(t, "dora", "--app", "shop"), c.Do(t, "notify", "ls"))
}
