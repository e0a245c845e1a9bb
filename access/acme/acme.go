// Package acme gets TLS certificates for public host names from an authority by ACME (RFC 8555), and
// renews them. The orders are made here; that a host is this installation's is shown by whoever answers
// at it, which is told what to answer through [Challenger].
//
// There is one account for an installation and authority. What is kept (the account, the certificates,
// what failed and when it is tried again) is in the store, keys sealed: a process that follows goes on
// where this one was.
package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/certificate"
)

// LetsEncrypt is the directory of the authority that is asked by default.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

const (
	orderTime   = 5 * time.Minute // for an order, with all that the authority looks at
	requestTime = 30 * time.Second
	lookAgain   = time.Hour // where nothing is due before
	// unreachable is how long an authority that does not answer is left alone, the first time and at most.
	unreachable, unreachableMost = time.Minute, time.Hour
)

// Config says whom to ask, and how. The zero value is no valid one: the address is needed.
type Config struct {
	Email     string // of the account, for the authority's warnings
	Directory string // of the authority; "": LetsEncrypt
	Roots     []byte // in PEM: who vouches for the authority's own server; nil: whom the system trusts
	// BindingID and BindingKey (in base64url) bind the account to one that the authority knows already
	// (RFC 8555, 7.3.4). Empty: it needs none.
	BindingID, BindingKey string
	DNS                   DNS    // shows by records in DNS whose a host is, as wildcards need it; nil: by HTTP and TLS
	Agent                 string // for the authority's log
	// Hosts gives the hosts that are to have certificates, each with an app that is told of it.
	Hosts func(ctx context.Context) (map[string]maru.Scope, error)
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	if !strings.Contains(c.Email, "@") {
		return maru.WithHint(maru.Errorf(maru.Invalid, "acme: %q is no e-mail address", c.Email), "authorities write there when something is wrong: --acme admin@example.com")
	}
	if c.Directory != "" {
		if u, err := url.Parse(c.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			return maru.Errorf(maru.Invalid, "acme: the directory %q is no address of https", c.Directory)
		}
	}
	if (c.BindingID == "") != (c.BindingKey == "") {
		return maru.Errorf(maru.Invalid, "acme: an account is bound by an ID and a key")
	}
	if c.Roots != nil && !x509.NewCertPool().AppendCertsFromPEM(c.Roots) {
		return maru.Errorf(maru.Invalid, "acme: no certificate of an authority is in what was given")
	}
	return nil
}

// Challenger has the hosts answer what the authority asks.
type Challenger interface {
	// Challenge puts the challenges in the place of earlier ones, and returns when they are answered.
	Challenge(ctx context.Context, all []maru.Challenge) error
}

// Manager gets and renews certificates.
type Manager struct {
	cfg        Config
	store      maru.Store
	sealer     certificate.Sealer
	vault      *certificate.Vault
	challenger Challenger
	log        *slog.Logger
	client     *acmez.Client
	line       *line
	wake       chan struct{}

	mu     sync.Mutex
	asked  []maru.Challenge // that are answered just now
	quiet  time.Time        // the authority is left alone until then
	silent time.Duration    // how long it was left alone the last time
	busy   string           // host that is being worked on
}

// New makes a manager. It starts nothing.
func New(cfg Config, store maru.Store, sealer certificate.Sealer, challenger Challenger, log *slog.Logger) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Directory == "" {
		cfg.Directory = LetsEncrypt
	}
	m := &Manager{
		cfg: cfg, store: store, sealer: sealer, vault: certificate.New(store, sealer), challenger: challenger, log: log,
		wake: make(chan struct{}, 1),
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	if cfg.Roots != nil {
		transport.TLSClientConfig = rootsOf(cfg.Roots)
	}
	m.line = &line{under: transport}
	m.client = &acmez.Client{
		Client: &acme.Client{
			Directory: cfg.Directory, UserAgent: cfg.Agent, PollTimeout: orderTime,
			HTTPClient: &http.Client{Transport: m.line, Timeout: requestTime},
		},
		ChallengeSolvers: m.solvers(),
	}
	return m, nil
}

// Wake has the manager look at once at what is to be done.
func (m *Manager) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run gets certificates until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		again, err := m.step(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			m.log.Warn("certificates can't be looked after", "error", err)
			again = time.Minute
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-m.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// step does one thing that is due, and tells when to look again.
func (m *Manager) step(ctx context.Context, now time.Time) (again time.Duration, err error) {
	if wait := m.Quiet(); wait > 0 {
		return wait, nil
	}
	wanted, err := m.cfg.Hosts(ctx)
	if err != nil {
		return 0, err
	}
	hosts, err := m.hosts(ctx, wanted, now)
	if err != nil {
		return 0, err
	}
	order, ask, next := decide(now, hosts)
	switch {
	case order != nil:
		return 0, m.order(ctx, *order, wanted[order.name])
	case ask != nil:
		return 0, m.askRenewal(ctx, *ask)
	case next.IsZero():
		return lookAgain, nil
	}
	return min(next.Sub(now), lookAgain), nil
}

// Quiet tells for how long the authority is left alone still, since it did not answer.
func (m *Manager) Quiet() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Until(m.quiet)
}

// hosts gives those of the wanted hosts that are public and have no certificate from elsewhere. What is
// kept of others, and of no use any more, is forgotten.
func (m *Manager) hosts(ctx context.Context, wanted map[string]maru.Scope, now time.Time) ([]host, error) {
	kept, err := m.vault.All(ctx)
	if kept == nil && err != nil {
		return nil, err
	}
	records, err := m.records(ctx)
	if err != nil {
		return nil, err
	}
	own := map[string]certificate.One{}
	for _, one := range kept {
		if one.Info.Source == maru.CertificateACME {
			own[one.Info.Name] = one
		}
	}
	var hosts []host
	for name := range wanted {
		if !Public(name) || covered(kept, name, now) {
			continue
		}
		h := host{name: name, record: records[name].record}
		if one, ok := own[name]; ok {
			h.from, h.to = one.Leaf.NotBefore, one.Leaf.NotAfter
		}
		hosts = append(hosts, h)
	}
	return hosts, m.forget(ctx, wanted, own, records, now)
}

// covered tells whether a person gave a certificate for the host.
func covered(kept []certificate.One, name string, now time.Time) bool {
	for _, one := range kept {
		if one.Info.Source == maru.CertificateGiven && one.Covers(name, now) {
			return true
		}
	}
	return false
}

// forget lets go of what belongs to hosts that nobody wants any more: what failed at once, certificates when
// they have expired, since a route may come back.
func (m *Manager) forget(ctx context.Context, wanted map[string]maru.Scope, own map[string]certificate.One, records map[string]stored, now time.Time) error {
	var changes []maru.Change
	for name, r := range records {
		if _, ok := wanted[name]; !ok {
			changes = append(changes, maru.Change{Key: recordKey(name), Expect: r.revision})
		}
	}
	for name, one := range own {
		if _, ok := wanted[name]; !ok && now.After(one.Leaf.NotAfter) {
			changes = append(changes, m.vault.Forget(maru.CertificateACME, name))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	_, err := m.store.Commit(ctx, changes...)
	return err
}

// Certificates tells how far the hosts are: those that have no certificate yet, and when the others are
// renewed.
func (m *Manager) Certificates(ctx context.Context) ([]maru.CertificateInfo, error) {
	now := time.Now()
	wanted, err := m.cfg.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := m.hosts(ctx, wanted, now)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	busy := m.busy
	m.mu.Unlock()
	var all []maru.CertificateInfo
	for _, h := range hosts {
		info := maru.CertificateInfo{
			Name: h.name, Hosts: []string{h.name}, Source: maru.CertificateACME, Message: h.record.Error, Renewal: h.due(),
			NotBefore: h.from, NotAfter: h.to, State: maru.CertificateValid,
		}
		switch {
		case h.to.IsZero() && h.record.Failures > 0 && busy != h.name:
			info.State = maru.CertificateFailed
		case h.to.IsZero():
			info.State, info.Message = maru.CertificatePending, "the authority is asked for it"
		case now.After(h.to):
			info.State = maru.CertificateExpired
		}
		all = append(all, info)
	}
	return all, nil
}

// line is the way to the authority. It notes whether that is out of order.
type line struct {
	under http.RoundTripper
	down  atomic.Bool
}

// RoundTrip notes how it ended.
func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := l.under.RoundTrip(r)
	l.down.Store(err != nil || res.StatusCode >= 500)
	return res, err
}

// errUnreachable says that the authority did not answer, which is no host's fault.
var errUnreachable = errors.New("the authority does not answer")
