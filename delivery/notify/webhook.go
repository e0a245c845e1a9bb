package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// secretPrefix begins the keys of signatures, as standardwebhooks.com has them.
const secretPrefix = "whsec_"

// newSecret makes a key.
func newSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// secretKey reads a key of 24 to 64 bytes.
func secretKey(secret string) ([]byte, error) {
	text, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "the secret is no key of signatures"), "it looks like whsec_ and 24 to 64 bytes in base64; leave it out to have one made")
	}
	return key, nil
}

// sign gives the signature of a message, of the version that uses a shared key.
func sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// refusal is an answer that is not the one to be had.
type refusal struct {
	status int
	after  time.Duration // when to try again, if it says
}

func (r refusal) Error() string {
	return fmt.Sprintf("it answered %d %s", r.status, http.StatusText(r.status))
}

// webhook sends a CloudEvent. The ID is the same each time that it is tried.
func (n *Notifier) webhook(ctx context.Context, r maru.Receiver, t maru.ReceiverTarget, m message) error {
	key, err := secretKey(t.Secret)
	if err != nil {
		return err
	}
	body := maru.Raw(maru.NewCloudEvent(n.cfg.Host, m.Name, m.Event))
	now := time.Now()
	header := http.Header{
		"Content-Type":      {maru.CloudEventType + "; charset=utf-8"},
		"Webhook-Id":        {m.id()},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {sign(key, m.id(), now, body)},
	}
	return n.post(ctx, r, t.URL, header, body)
}

// slackEscapes are the characters that mean something in a message.
var slackEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// slack sends a message to an incoming webhook.
func (n *Notifier) slack(ctx context.Context, r maru.Receiver, t maru.ReceiverTarget, m message) error {
	text := "*" + slackEscapes.Replace(subject(m.Event)) + "*\n" + slackEscapes.Replace(m.Event.Message)
	body := maru.Raw(map[string]string{"text": text})
	return n.post(ctx, r, t.URL, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body)
}

// post sends a body to where it says, and nowhere else. What is told of errors has no part of the URL.
func (n *Notifier) post(ctx context.Context, r maru.Receiver, to string, header http.Header, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return maru.Errorf(maru.Invalid, "its address can't be read")
	}
	request.Header = header
	request.Header.Set("User-Agent", "maru")
	client := n.public
	if r.Private {
		client = n.private
	}
	response, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
	if response.StatusCode/100 == 2 {
		return nil
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return refusal{response.StatusCode, time.Duration(seconds) * time.Second}
}

// httpClient sends to public addresses only, or to all. It follows no redirect, and uses no proxy: both would lead
// around that.
func (n *Notifier) httpClient(private bool) *http.Client {
	return &http.Client{
		Timeout: sendTime,
		Transport: &http.Transport{
			DialContext: dialer(private).DialContext, TLSHandshakeTimeout: dialTime, TLSClientConfig: n.tls(),
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
