package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
)

// sendTime is how long it may take to send one message.
const sendTime = 20 * time.Second

// Sealer keeps secret where receivers are.
type Sealer interface {
	Seal(value []byte, name string) []byte
	Open(sealed []byte, name string) ([]byte, error)
}

// Config tunes a Notifier. The zero value of a field is its default.
type Config struct {
	Host     string         // names this machine; required
	Roots    *x509.CertPool // sign the receivers' certificates; default: those that the system trusts
	FirstTry time.Duration  // before a message is tried again, doubling; default 5 s
	LastTry  time.Duration  // the longest wait; default 1 hour
	GiveUp   time.Duration  // a message is tried for so long; default 24 hours
	Shown    time.Duration  // one that was given up is kept so long; default 7 days
	Waiting  int            // messages of a receiver that wait at most; default 1000
	Parallel int            // receivers that are told at once; default 8
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	if c.Host == "" || strings.ContainsAny(c.Host, " /\r\n") {
		return maru.Errorf(maru.Invalid, "the machine has no name")
	}
	return nil
}

func (c Config) withDefaults() Config {
	for field, otherwise := range map[*time.Duration]time.Duration{
		&c.FirstTry: 5 * time.Second, &c.LastTry: time.Hour, &c.GiveUp: 24 * time.Hour, &c.Shown: 7 * 24 * time.Hour,
	} {
		if *field <= 0 {
			*field = otherwise
		}
	}
	if c.Waiting <= 0 {
		c.Waiting = 1000
	}
	if c.Parallel <= 0 {
		c.Parallel = 8
	}
	return c
}

// Notifier keeps receivers and tells them of what happens. It is safe for concurrent use.
type Notifier struct {
	cfg             Config
	store           maru.Store
	sealer          Sealer
	log             *slog.Logger
	public, private *http.Client
	wake            chan struct{}
}

// New makes a Notifier. Nobody is told anything before [Notifier.Run].
func New(cfg Config, store maru.Store, sealer Sealer, log *slog.Logger) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Notifier{cfg: cfg.withDefaults(), store: store, sealer: sealer, log: log, wake: make(chan struct{}, 1)}
	n.public, n.private = n.httpClient(false), n.httpClient(true)
	return n, nil
}

func (n *Notifier) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: n.cfg.Roots}
}

// Run tells receivers of what happens until ctx ends. What is not told by then is told by the next process.
func (n *Notifier) Run(ctx context.Context) error {
	defer n.public.CloseIdleConnections()
	defer n.private.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.collect(ctx) })
	group.Go(func() error { return n.deliver(ctx) })
	return group.Wait()
}

// more has the outbox looked at.
func (n *Notifier) more() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// send tells a receiver of one thing.
func (n *Notifier) send(ctx context.Context, r maru.Receiver, t maru.ReceiverTarget, m message) error {
	switch r.Kind {
	case maru.ReceiverWebhook:
		return n.webhook(ctx, r, t, m)
	case maru.ReceiverSlack:
		return n.slack(ctx, r, t, m)
	case maru.ReceiverEmail:
		return n.email(ctx, r, t, m)
	}
	return maru.Errorf(maru.Unsupported, "receivers of the kind %q are unknown", r.Kind)
}

// plain is what is kept and shown of why a message could not be sent, in a line.
func plain(err error) string {
	text := []rune(strings.Join(strings.Fields(err.Error()), " "))
	return string(text[:min(len(text), 300)])
}

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
