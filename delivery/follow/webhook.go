package follow

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Prefix begins the paths of webhooks: PREFIX APP, or PREFIX PROJECT/APP. No repository is named so.
const Prefix = "/git/-/hooks/"

// Limits of webhooks.
const (
	maxHook    = 25 << 20         // bytes; what GitHub sends at most
	tolerance  = 5 * time.Minute  // of the clock of who signs a time
	remembered = 24 * time.Hour   // deliveries that are not taken again
	maxSeen    = 100_000          // of them
	hookTime   = 30 * time.Second // to send one
)

// ServeHTTP takes a webhook: that there is news. What it says besides is not used, and it is believed only with a
// signature by the secret that was set for it.
func (f *Follower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, text := f.hook(w, r)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// refusal is the one answer to all who are not known: it tells nobody what is followed.
const refusal = "no webhook is taken from you here"

func (f *Follower) hook(w http.ResponseWriter, r *http.Request) (status int, text string) {
	project, app, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	if !ok {
		project, app = maru.DefaultProject, project
	}
	id := maru.RepositoryID{Project: project, App: strings.TrimSuffix(app, ".git")}
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed, "webhooks are sent by POST"
	}
	if id.Validate() != nil {
		return http.StatusForbidden, refusal
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(hookTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHook))
	if err != nil {
		return http.StatusRequestEntityTooLarge, "the webhook is too long"
	}
	to, err := load[maru.Following](r.Context(), f.store, followKey(id))
	if err != nil || to.Webhook == "" {
		return http.StatusForbidden, refusal
	}
	secret, err := f.value(r.Context(), id, to.Webhook)
	if err != nil || secret == "" {
		f.log.Warn("the secret of a webhook can't be read", "app", id.String(), "error", err)
		return http.StatusForbidden, refusal
	}
	delivery, ok := verify(to.Forge, r.Header, body, secret, time.Now())
	if !ok {
		return http.StatusForbidden, refusal
	}
	if !f.first(id, delivery, body, time.Now()) {
		return http.StatusOK, "it was taken before"
	}
	f.mu.Lock()
	l := f.looks[id]
	f.mu.Unlock()
	if l == nil {
		return http.StatusServiceUnavailable, "the server is starting"
	}
	select {
	case l.now <- struct{}{}:
	default: // it looks anyway
	}
	return http.StatusAccepted, "thank you"
}

// verify tells whether a webhook was made by somebody who has the secret, and what names its delivery besides its
// body. A name that the signature does not cover is none: who sends a webhook again could change it.
//
//   - GitHub: X-Hub-Signature-256 is "sha256=" and the HMAC-SHA-256 of the body in hexadecimal.
//   - Gitea: X-Gitea-Signature is that without a prefix.
//   - GitLab: X-Gitlab-Token is the secret itself.
//   - Others: Standard Webhooks. webhook-signature has "v1," and the HMAC of ID.TIME.BODY in base64.
func verify(forge maru.Forge, header http.Header, body []byte, secret string, now time.Time) (delivery string, ok bool) {
	switch forge {
	case maru.GitHub:
		signature, found := strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=")
		return "", found && signs(signature, hmacOf(secret, body))
	case maru.Gitea:
		return "", signs(header.Get("X-Gitea-Signature"), hmacOf(secret, body))
	case maru.GitLab:
		given, want := sha256.Sum256([]byte(header.Get("X-Gitlab-Token"))), sha256.Sum256([]byte(secret))
		return header.Get("X-Gitlab-Event-UUID"), subtle.ConstantTimeCompare(given[:], want[:]) == 1
	}
	return verifyStandard(header, body, secret, now)
}

func verifyStandard(header http.Header, body []byte, secret string, now time.Time) (delivery string, ok bool) {
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if id == "" || err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return "", false
	}
	key := []byte(secret)
	if encoded, found := strings.CutPrefix(secret, "whsec_"); found {
		if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			key = decoded
		}
	}
	want := hmacOf(string(key), []byte(id+"."+at+"."), body)
	for signature := range strings.FieldsSeq(header.Get("webhook-signature")) {
		encoded, found := strings.CutPrefix(signature, "v1,")
		given, err := base64.StdEncoding.DecodeString(encoded)
		if found && err == nil && hmac.Equal(given, want) {
			return id, true
		}
	}
	return "", false
}

func hmacOf(secret string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// signs compares a signature in hexadecimal, in a time that tells nothing.
func signs(signature string, want []byte) bool {
	given, err := hex.DecodeString(signature)
	return err == nil && hmac.Equal(given, want)
}

// first tells whether a delivery was not taken before. One without a name is named by what it says.
func (f *Follower) first(id maru.RepositoryID, delivery string, body []byte, now time.Time) bool {
	sum := sha256.Sum256(body)
	name := id.String() + " " + hex.EncodeToString(sum[:]) + " " + delivery[:min(len(delivery), 200)]
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, known := f.seen[name]; known && now.Sub(at) < remembered {
		return false
	}
	if len(f.seen) >= maxSeen {
		for other, at := range f.seen {
			if now.Sub(at) >= remembered {
				delete(f.seen, other)
			}
		}
		if len(f.seen) >= maxSeen {
			clear(f.seen)
		}
	}
	f.seen[name] = now
	return true
}
