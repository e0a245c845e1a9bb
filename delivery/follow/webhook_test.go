package follow

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// hook sends a webhook as a forge signs it.
func (r *rig) hook(forge maru.Forge, secret, body string, change func(http.Header)) (int, string) {
	request := httptest.NewRequest(http.MethodPost, Prefix+"shop", strings.NewReader(body))
	h := request.Header
	mac := hex.EncodeToString(hmacOf(secret, []byte(body)))
	switch forge {
	case maru.GitHub:
		h.Set("X-Hub-Signature-256", "sha256="+mac)
		h.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
	case maru.Gitea:
		h.Set("X-Gitea-Signature", mac)
	case maru.GitLab:
		h.Set("X-Gitlab-Token", secret)
		h.Set("X-Gitlab-Event-UUID", "1")
	default:
		at := fmt.Sprint(time.Now().Unix())
		h.Set("webhook-id", "msg_1")
		h.Set("webhook-timestamp", at)
		h.Set("webhook-signature", "v1,AAAA v1,"+base64.StdEncoding.EncodeToString(hmacOf(secret, []byte("msg_1."+at+"."+body))))
	}
	if change != nil {
		change(h)
	}
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	return answer.Code, answer.Body.String()
}

func TestWebhooks(t *testing.T) {
	for _, forge := range []maru.Forge{maru.GitHub, maru.GitLab, maru.Gitea, maru.GenericForge} {
		t.Run(string(forge), func(t *testing.T) {
			r := begin(t)
			r.commit("main", "One")
			r.run()
			if code, text := r.hook(forge, "h00k", "{}", nil); code != http.StatusForbidden {
				t.Errorf("before it follows: %d %s", code, text)
			}
			if _, err := r.Follow(t.Context(), r.following(func(to *maru.Following) { to.Forge, to.Webhook = forge, "hook" })); err != nil {
				t.Fatal(err)
			}
			r.eventually("the first look", func() bool { return strings.HasPrefix(r.receiver.updates(), "main →") })
			before := r.receiver.updates()
			two := r.commit("main", "Two")
			for name, refused := range map[string]func() (int, string){
				"another secret": func() (int, string) { return r.hook(forge, "guess", "{}", nil) },
				"no signature":   func() (int, string) { return r.hook(forge, "h00k", "{}", func(h http.Header) { clear(h) }) },
			} {
				if code, text := refused(); code != http.StatusForbidden {
					t.Errorf("%s: %d %s", name, code, text)
				}
			}
			if r.receiver.updates() != before {
				t.Fatal("a webhook that was refused had an effect")
			}
			if code, text := r.hook(forge, "h00k", "{}", nil); code != http.StatusAccepted {
				t.Fatalf("a good one: %d %s", code, text)
			}
			r.eventually("what the webhook told of", func() bool { return strings.HasSuffix(r.receiver.updates(), fmt.Sprintf("→%.4s", two)) })
			again := func(h http.Header) {
				if forge == maru.GitHub {
					h.Set("X-GitHub-Delivery", "another")
				}
			}
			if code, text := r.hook(forge, "h00k", "{}", again); code != http.StatusOK || !strings.Contains(text, "taken before") {
				t.Errorf("the same again: %d %s", code, text)
			}
		})
	}
}

func TestOldWebhooksAreRefused(t *testing.T) {
	body := []byte("{}")
	now := time.Unix(1_800_000_000, 0)
	for age, want := range map[time.Duration]bool{0: true, 4 * time.Minute: true, 6 * time.Minute: false, -6 * time.Minute: false} {
		at := fmt.Sprint(now.Add(-age).Unix())
		h := http.Header{}
		h.Set("webhook-id", "a")
		h.Set("webhook-timestamp", at)
		h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(hmacOf("key", []byte("a."+at+".{}"))))
		if _, ok := verify(maru.GenericForge, h, body, "whsec_"+base64.StdEncoding.EncodeToString([]byte("key")), now); ok != want {
			t.Errorf("%s old: %v", age, ok)
		}
	}
}

// TestGitHubsExample is that of GitHub's documentation.
func TestGitHubsExample(t *testing.T) {
	h := http.Header{}
	h.Set("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
	if _, ok := verify(maru.GitHub, h, []byte("Hello, World!"), "It's a Secret to Everybody", time.Now()); !ok {
		t.Error("it is refused")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("sha256=00", "1", "v1,", []byte("{}"))
	f.Fuzz(func(t *testing.T, signature, at, standard string, body []byte) {
		h := http.Header{"X-Hub-Signature-256": {signature}, "X-Gitea-Signature": {signature}, "X-Gitlab-Token": {signature}}
		h.Set("webhook-id", at)
		h.Set("webhook-timestamp", at)
		h.Set("webhook-signature", standard)
		for _, forge := range []maru.Forge{maru.GitHub, maru.Gitea, maru.GitLab, maru.GenericForge} {
			if _, ok := verify(forge, h, body, "a secret that nobody guesses", time.Now()); ok {
				t.Fatalf("%s takes what has no signature", forge)
			}
		}
	})
}
