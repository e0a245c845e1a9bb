package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/memory"
)

var (
	everywhere = maru.Scope{}
	shop       = maru.Scope{Project: "default", Environment: "production", App: "shop"}
)

// box seals by turning bits over, which is enough to see what is not sealed.
type box struct{}

func (box) Seal(value []byte, name string) []byte {
	sealed := bytes.Clone(value)
	for i := range sealed {
		sealed[i] ^= 0xff
	}
	return append([]byte(name+"\x00"), sealed...)
}

func (b box) Open(sealed []byte, name string) ([]byte, error) {
	value, ok := bytes.CutPrefix(sealed, []byte(name+"\x00"))
	if !ok {
		return nil, maru.Errorf(maru.Invalid, "it was sealed for another")
	}
	return b.Seal(value, "")[1:], nil
}

// hook is a real HTTP server that takes what is sent.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(n int) int // the status of the n-th request, from 1
	took   []*http.Request
	bodies []string
}

func newHook(t *testing.T) *hook {
	h := &hook{answer: func(int) int { return http.StatusNoContent }}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.took, h.bodies = append(h.took, r), append(h.bodies, string(body))
		status := h.answer(len(h.took))
		if status/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) requests() ([]*http.Request, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.took), slices.Clone(h.bodies)
}

func (h *hook) answers(answer func(n int) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

type rig struct {
	*Notifier
	t     *testing.T
	store maru.Store
	cfg   Config
	log   *bytes.Buffer
	stop  func()
	count int
}

func begin(t *testing.T, cfg Config) *rig {
	if cfg.Host == "" {
		cfg.Host = "host.example.com"
	}
	if cfg.FirstTry == 0 {
		cfg.FirstTry = 4 * time.Millisecond
	}
	r := &rig{t: t, store: memory.New(), cfg: cfg, log: &bytes.Buffer{}}
	r.make()
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) make() {
	r.t.Helper()
	var err error
	if r.Notifier, err = New(r.cfg, r.store, box{}, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	n := r.Notifier
	go func() { done <- n.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		r.stop = func() {}
	}
}

func (r *rig) add(name, url string, topics ...maru.Topic) (secret string) {
	r.t.Helper()
	_, secret, err := r.Add(r.t.Context(), "ann", maru.Receiver{Name: name, Kind: maru.ReceiverWebhook, Topics: topics, Private: true}, maru.ReceiverTarget{URL: url})
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// happen stores an event.
func (r *rig) happen(kind string, change ...func(*maru.Event)) string {
	r.t.Helper()
	r.count++
	e := maru.Event{Time: time.Now().UTC(), Scope: shop, Type: kind, Message: kind + " " + strconv.Itoa(r.count)}
	for _, c := range change {
		c(&e)
	}
	name := fmt.Sprintf("%s/%s-%d", e.Scope, e.Time.Format("20060102T150405.000000000Z"), r.count)
	if _, err := r.store.Commit(r.t.Context(), maru.Change{Key: maru.Key{Kind: kindEvent, Name: name}, Data: maru.Raw(e)}); err != nil {
		r.t.Fatal(err)
	}
	return name
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to " + what)
		}
		pause(t.Context(), 2*time.Millisecond)
	}
}

func (r *rig) status(name string) maru.ReceiverStatus {
	r.t.Helper()
	all, err := r.Receivers(r.t.Context(), everywhere)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no receiver %s", name)
	return maru.ReceiverStatus{}
}

func TestWebhook(t *testing.T) {
	r, h := begin(t, Config{}), newHook(t)
	h.answers(func(n int) int { return []int{500, 302, 204, 204}[min(n, 4)-1] })
	r.happen("run-failed") // before anybody wanted to hear of it
	secret := r.add("ops", h.URL+"/secret-path?token=hidden", maru.TopicFailedRuns)
	key, err := secretKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	r.happen("rollout-started")
	name := r.happen("run-failed", func(e *maru.Event) { e.Message = "no" + "; its last words: password=hunter2"; e.Service = "web" })
	until(t, "three requests", func() bool { took, _ := h.requests(); return len(took) == 3 })
	until(t, "an empty outbox", func() bool { return r.status("ops").Waiting == 0 })
	took, bodies := h.requests()
	for i, request := range took {
		if request.URL.RequestURI() != "/secret-path?token=hidden" || request.Method != http.MethodPost || request.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" {
			t.Errorf("%s %s with %v", request.Method, request.URL, request.Header)
		}
		seconds, err := strconv.ParseInt(request.Header.Get("Webhook-Timestamp"), 10, 64)
		if at := time.Unix(seconds, 0); err != nil || time.Since(at).Abs() > time.Minute || sign(key, request.Header.Get("Webhook-Id"), at, []byte(bodies[i])) != request.Header.Get("Webhook-Signature") {
			t.Errorf("the signature is wrong: %v", request.Header)
		}
		if request.Header.Get("Webhook-Id") != took[0].Header.Get("Webhook-Id") || bodies[i] != bodies[0] {
			t.Error("it is another message when it is tried again")
		}
	}
	var event map[string]any
	if err := json.Unmarshal([]byte(bodies[0]), &event); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"specversion": "1.0", "type": "io.github.marucloud.maru.run-failed", "source": "maru://host.example.com/default/production/shop",
		"id": name[strings.LastIndex(name, "/")+1:], "subject": "web", "datacontenttype": "application/json",
	} {
		if event[field] != want {
			t.Errorf("%s is %v, not %v", field, event[field], want)
		}
	}
	if strings.Contains(bodies[0], "hunter2") || !strings.Contains(bodies[0], `"message":"no"`) {
		t.Errorf("it has what a program wrote: %s", bodies[0])
	}
}

// TestLives ends the process at several points, and looks that nothing is lost.
func TestLives(t *testing.T) {
	r, h := begin(t, Config{FirstTry: time.Hour, LastTry: time.Hour}), newHook(t)
	r.add("ops", h.URL, maru.TopicFailedRuns)
	h.answers(func(int) int { return 503 })
	r.happen("run-failed")
	until(t, "a failure", func() bool { return r.status("ops").Error != "" })
	r.stop()
	r.happen("run-failed") // while nobody looks
	h.answers(func(int) int { return 200 })
	r.cfg.FirstTry, r.cfg.LastTry = time.Millisecond, time.Millisecond
	// What failed waits for its time, also in the next process: that of the first is made to have come.
	messages, err := list[message](t.Context(), r.store, kindMessage, "")
	if err != nil || len(messages) != 1 {
		t.Fatalf("%v, %v", messages, err)
	}
	for key, m := range messages {
		if m.Attempts != 1 || time.Until(m.Next) < 29*time.Minute || m.Error != "it answered 503 Service Unavailable" {
			t.Errorf("%+v", m)
		}
		m.Next = time.Time{}
		if err := r.put(t.Context(), key, &m); err != nil {
			t.Fatal(err)
		}
	}
	r.make()
	r.start()
	until(t, "three requests", func() bool { took, _ := h.requests(); return len(took) == 3 })
	until(t, "an empty outbox", func() bool { return r.status("ops").Waiting == 0 })
	r.stop()
	r.make()
	r.start()
	r.happen("run-failed")
	until(t, "a fourth", func() bool { took, _ := h.requests(); return len(took) == 4 })
}

func TestOneThatFailsKeepsNobodyWaiting(t *testing.T) {
	r, good, bad := begin(t, Config{LastTry: 8 * time.Millisecond, GiveUp: 50 * time.Millisecond}), newHook(t), newHook(t)
	r.add("good", good.URL, maru.TopicEvents)
	r.add("bad", bad.URL, maru.TopicRollbacks)
	r.add("gone", bad.URL+"/gone", maru.TopicApprovals)
	bad.answers(func(int) int { return 500 })
	for range 5 {
		r.happen("rollout-rolled-back")
	}
	until(t, "the good one is told", func() bool { took, _ := good.requests(); return len(took) >= 5 })
	until(t, "the bad one is given up", func() bool { s := r.status("bad"); return s.GivenUp == 5 && s.Waiting == 0 })
	troubles, err := r.Troubles(t.Context(), shop)
	if err != nil || len(troubles) != 1 || !strings.Contains(troubles[0], "bad was not told of 5 things") {
		t.Errorf("%q, %v", troubles, err)
	}
	bad.answers(func(int) int { return 410 })
	r.happen("run-waiting")
	until(t, "410 ends it at once", func() bool { return r.status("gone").GivenUp == 1 })
	if err := r.Remove(t.Context(), "ann", everywhere, "bad"); err != nil {
		t.Fatal(err)
	}
	if left, err := list[message](t.Context(), r.store, kindMessage, everywhere.String()+"/bad/"); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if err := r.Remove(t.Context(), "ann", everywhere, "bad"); maru.KindOf(err) != maru.NotFound {
		t.Errorf("again: %v", err)
	}
}

func TestTooManyWait(t *testing.T) {
	r, h := begin(t, Config{FirstTry: time.Hour, Waiting: 3}), newHook(t)
	h.answers(func(int) int { return 500 })
	r.add("ops", h.URL, maru.TopicRollbacks)
	for range 5 {
		r.happen("rollout-rolled-back")
	}
	until(t, "the oldest are given up", func() bool { s := r.status("ops"); return s.GivenUp == 2 && s.Waiting == 3 })
}

// TestRefusedMessage: one that is refused for what it has does not keep others.
func TestRefusedMessage(t *testing.T) {
	r, h := begin(t, Config{FirstTry: time.Hour}), newHook(t)
	h.answers(func(n int) int { return map[bool]int{true: 400, false: 200}[n == 1] })
	r.add("ops", h.URL, maru.TopicEvents)
	until(t, "two requests", func() bool {
		r.happen("anything")
		took, _ := h.requests()
		return len(took) >= 2
	})
}

func TestSecretsDoNotLeak(t *testing.T) {
	r, h := begin(t, Config{}), newHook(t)
	secret := r.add("ops", h.URL+"/T000/B000/hidden", maru.TopicEvents)
	h.Close()
	r.happen("anything")
	until(t, "a failure", func() bool { return r.status("ops").Error != "" })
	err := r.Test(t.Context(), "ann", everywhere, "ops")
	if maru.KindOf(err) != maru.Unavailable {
		t.Errorf("%v", err)
	}
	r.stop()
	var all strings.Builder
	for _, kind := range []string{kindReceiver, kindMessage, kindEvent} {
		objects, _, err := r.store.List(t.Context(), kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			all.Write(o.Data)
		}
	}
	fmt.Fprint(&all, err, maru.HintOf(err), r.log, r.status("ops"))
	for _, hidden := range []string{"T000", "hidden", strings.TrimPrefix(secret, secretPrefix)} {
		if strings.Contains(all.String(), hidden) {
			t.Errorf("%q is in %s", hidden, all.String())
		}
	}
}

func TestSlack(t *testing.T) {
	r, h := begin(t, Config{}), newHook(t)
	_, secret, err := r.Add(t.Context(), "ann", maru.Receiver{Scope: maru.Scope{App: "shop"}, Name: "team", Kind: maru.ReceiverSlack, Private: true}, maru.ReceiverTarget{URL: h.URL + "/services/x"})
	if err != nil || secret != "" {
		t.Fatal(secret, err)
	}
	r.happen("run-failed", func(e *maru.Event) { e.Scope.App = "blog" })
	r.happen("run-failed", func(e *maru.Event) { e.Message = "<script> & co" })
	until(t, "a request", func() bool { took, _ := h.requests(); return len(took) == 1 })
	if _, bodies := h.requests(); bodies[0] != `{"text":"*shop in production: a push failed*\n\u0026lt;script\u0026gt; \u0026amp; co"}` {
		t.Errorf("it is sent %s", bodies[0])
	}
}

func TestAddRefuses(t *testing.T) {
	r := begin(t, Config{})
	for name, c := range map[string]struct {
		kind    maru.ReceiverKind
		private bool
		target  maru.ReceiverTarget
		topic   maru.Topic
	}{
		"no address":           {kind: maru.ReceiverWebhook},
		"a file":               {kind: maru.ReceiverWebhook, target: maru.ReceiverTarget{URL: "file:///etc/passwd"}},
		"a password":           {kind: maru.ReceiverWebhook, target: maru.ReceiverTarget{URL: "https://a:b@example.com/"}},
		"in the clear":         {kind: maru.ReceiverSlack, target: maru.ReceiverTarget{URL: "http://example.com/"}},
		"a short key":          {kind: maru.ReceiverWebhook, target: maru.ReceiverTarget{URL: "https://example.com/", Secret: "whsec_YQ=="}},
		"an unknown topic":     {kind: maru.ReceiverWebhook, target: maru.ReceiverTarget{URL: "https://example.com/"}, topic: "gossip"},
		"an unknown kind":      {kind: "pigeon", target: maru.ReceiverTarget{URL: "https://example.com/"}},
		"e-mail to nobody":     {kind: maru.ReceiverEmail, target: maru.ReceiverTarget{From: "a@example.com", Server: "smtp://example.com"}},
		"e-mail with a header": {kind: maru.ReceiverEmail, target: maru.ReceiverTarget{To: []string{"a@example.com\r\nBcc: b@example.com"}, From: "a@example.com", Server: "smtp://example.com"}},
		"e-mail by the web":    {kind: maru.ReceiverEmail, target: maru.ReceiverTarget{To: []string{"a@example.com"}, From: "a@example.com", Server: "https://example.com"}},
		"a password to see":    {kind: maru.ReceiverEmail, target: maru.ReceiverTarget{To: []string{"a@example.com"}, From: "a@example.com", Server: "smtp://a:b@example.com"}},
	} {
		receiver := maru.Receiver{Name: "x", Kind: c.kind, Private: c.private}
		if c.topic != "" {
			receiver.Topics = []maru.Topic{c.topic}
		}
		if _, _, err := r.Add(t.Context(), "ann", receiver, c.target); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrivateAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false,
		"224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false, "::1": false, "::": false, "fe80::1": false, "fd00::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "fe80::1%eth0": false,
		"8.8.8.8": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is public: %v", address, got)
		}
	}
	r, h := begin(t, Config{}), newHook(t)
	for _, name := range []string{"127.0.0.1", "localhost"} {
		url := strings.Replace(strings.Replace(h.URL, "http:", "https:", 1), "127.0.0.1", name, 1)
		if _, _, err := r.Add(t.Context(), "ann", maru.Receiver{Name: "inside", Kind: maru.ReceiverWebhook}, maru.ReceiverTarget{URL: url}); err != nil {
			t.Fatal(err)
		}
		err := r.Test(t.Context(), "ann", everywhere, "inside")
		if err == nil || !strings.Contains(err.Error(), "the address is not a public one") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if took, _ := h.requests(); len(took) != 0 {
		t.Errorf("%d requests came in", len(took))
	}
}

// TestSign has the example of standardwebhooks.com.
func TestSign(t *testing.T) {
	key, err := secretKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("it is %s, not %s", got, want)
	}
}

func TestTopics(t *testing.T) {
	for _, c := range []struct {
		event   string
		rollout maru.Delivery
		want    maru.Topic
	}{
		{"run-failed", maru.Delivery{}, maru.TopicFailedRuns},
		{"run-waiting", maru.Delivery{}, maru.TopicApprovals},
		{"run-succeeded", maru.Delivery{}, ""},
		{"rollout-rolled-back", maru.Delivery{}, maru.TopicRollbacks},
		{"rollout-started", maru.Delivery{Cause: "rollback"}, maru.TopicRollbacks},
		{"rollout-started", maru.Delivery{Cause: "deploy"}, ""},
		{"rollout-failed", maru.Delivery{Phase: maru.Pending}, ""},
		{"rollout-failed", maru.Delivery{Phase: maru.Failed}, maru.TopicRollbacks},
		{"rollout-held", maru.Delivery{}, maru.TopicHeldRollouts},
		{"instance-crash-loop", maru.Delivery{}, maru.TopicCrashLoops},
		{"instance-crashed", maru.Delivery{}, ""},
	} {
		if got := topicOf(maru.Event{Type: c.event}, func() maru.Delivery { return c.rollout }); got != c.want {
			t.Errorf("%s of %+v is about %q", c.event, c.rollout, got)
		}
	}
}
