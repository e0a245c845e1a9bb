package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
	"github.com/marucloud/maru/access/certificate"
)

// askEvery is how often the authority is asked when to renew, where it does not say when.
const askEvery = 12 * time.Hour

// order gets a certificate for the host, and keeps it, or why there is none and when to try again. An error
// is one of what is kept.
func (m *Manager) order(ctx context.Context, h host, scope maru.Scope) error {
	m.work(h.name)
	defer m.work("")
	ctx, cancel := context.WithTimeoutCause(ctx, orderTime, fmt.Errorf("the order was not done after %s", orderTime))
	defer cancel()
	given, leaf, err := m.obtain(ctx, h)
	now := time.Now()
	switch {
	case err == nil:
		m.answered()
		return m.got(ctx, h, scope, given, leaf)
	case errors.Is(err, errUnreachable):
		m.leaveAlone(now, err)
		return nil
	case errors.Is(context.Cause(ctx), context.Canceled):
		return nil
	}
	m.answered()
	return m.failed(context.WithoutCancel(ctx), h, scope, err, now)
}

func (m *Manager) work(on string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = on
}

func (m *Manager) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = 0
}

// leaveAlone has the authority not asked for a while, ever longer.
func (m *Manager) leaveAlone(now time.Time, err error) {
	m.mu.Lock()
	m.silent = min(max(2*m.silent, unreachable), unreachableMost)
	m.quiet = now.Add(m.silent)
	wait := m.silent
	m.mu.Unlock()
	m.log.Warn("the authority for certificates can't be reached", "directory", m.cfg.Directory, "again in", wait, "error", err)
}

func (m *Manager) obtain(ctx context.Context, h host) (maru.Certificate, *x509.Certificate, error) {
	if strings.HasPrefix(h.name, "*.") && m.cfg.DNS == nil {
		return maru.Certificate{}, nil, errors.New("a wildcard needs proof by DNS: start Maru with --acme-dns, or add a certificate with `maru certificate add`")
	}
	account, err := m.account(ctx)
	if err != nil {
		return maru.Certificate{}, nil, m.outside(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return maru.Certificate{}, nil, err
	}
	csr, err := acmez.NewCSR(key, []string{h.name})
	if err != nil {
		return maru.Certificate{}, nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return maru.Certificate{}, nil, err
	}
	if params.Replaces, err = m.replaced(ctx, h); err != nil {
		return maru.Certificate{}, nil, err
	}
	chains, err := m.client.ObtainCertificate(ctx, params)
	if err != nil {
		return maru.Certificate{}, nil, m.outside(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return maru.Certificate{}, nil, err
	}
	given := maru.Certificate{Chain: chains[0].ChainPEM, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), Public: true}
	leaf, err := certificate.Check(given, time.Now())
	return given, leaf, err
}

// replaced gives the certificate that a new one is to replace, where the authority can be told; nil: none.
func (m *Manager) replaced(ctx context.Context, h host) (*x509.Certificate, error) {
	if h.to.IsZero() || h.record.Renewal.IsZero() || h.record.Failures > 0 {
		return nil, nil //nolint:nilnil // no certificate is no error
	}
	one, err := m.own(ctx, h.name)
	if err != nil {
		return nil, err
	}
	return one.Leaf, nil
}

func (m *Manager) own(ctx context.Context, name string) (certificate.One, error) {
	kept, err := m.vault.All(ctx)
	for _, one := range kept {
		if one.Info.Source == maru.CertificateACME && one.Info.Name == name {
			return one, nil
		}
	}
	if err == nil {
		err = maru.Errorf(maru.NotFound, "there is no certificate for %s", name)
	}
	return certificate.One{}, err
}

// outside tells an authority that does not answer, or is out of order, from one that says no.
func (m *Manager) outside(err error) error {
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Status < 500 || !m.line.down.Load() {
		return err
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}

func (m *Manager) got(ctx context.Context, h host, scope maru.Scope, given maru.Certificate, leaf *x509.Certificate) error {
	change, info := m.vault.Change(maru.CertificateACME, h.name, "maru", given, leaf)
	what := "certificate-issued"
	if !h.to.IsZero() {
		what = "certificate-renewed"
	}
	m.log.Info("got a certificate", "host", h.name, "issuer", info.Issuer, "until", info.NotAfter)
	return m.keep(ctx, h.name, record{}, change,
		access.Recorded("maru", scope, what, fmt.Sprintf("%s has a certificate of %s until %s", h.name, info.Issuer, info.NotAfter.Format("2006-01-02"))))
}

func (m *Manager) failed(ctx context.Context, h host, scope maru.Scope, err error, now time.Time) error {
	r := h.record
	r.Failures++
	r.Error = explain(ctx, h.name, err)
	r.Next = now.Add(retryAfter(r.Failures))
	if limit := limitedUntil(err, now); limit.After(r.Next) {
		r.Next = limit
	}
	m.log.Warn("got no certificate", "host", h.name, "failures", r.Failures, "again", r.Next, "error", err)
	return m.keep(ctx, h.name, r,
		access.Recorded("maru", scope, "certificate-failed", fmt.Sprintf("%s got no certificate: %s", h.name, r.Error)))
}

const problemPrefix = "urn:ietf:params:acme:error:"

// explain says for people what the authority said, and what they can do.
func explain(ctx context.Context, host string, err error) string {
	var problem acme.Problem
	if !errors.As(err, &problem) {
		return err.Error()
	}
	said := "the authority says: " + strings.TrimSuffix(problem.Detail, ".")
	if problem.Detail == "" {
		said = "the authority says: " + strings.TrimPrefix(problem.Type, problemPrefix)
	}
	for _, sub := range problem.Subproblems {
		if sub.Detail != "" {
			said += "; " + sub.Detail
		}
	}
	if problem.Type == problemPrefix+"caa" {
		return said + ". The CAA records of the domain must permit the authority"
	}
	if _, ok := problem.Resource.(acme.Authorization); ok { // it looked at the host, and saw something else
		said += ". " + where(ctx, host)
	}
	return said
}

// where tells where a host leads to, which is what is wrong most of the time.
func where(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("no name server answers"))
	defer cancel()
	const wanted = "it must lead to this machine, where ports 80 and 443 must be open to the world"
	addresses, err := net.DefaultResolver.LookupHost(ctx, strings.TrimPrefix(host, "*."))
	if err != nil {
		return host + " leads nowhere from here; " + wanted
	}
	return host + " leads to " + strings.Join(addresses, ", ") + "; " + wanted
}

var limitForm = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)`)

// limitedUntil gives until when the authority wants to be left alone with the host, or zero.
func limitedUntil(err error, now time.Time) time.Time {
	var problem acme.Problem
	if !errors.As(err, &problem) || problem.Type != problemPrefix+"rateLimited" {
		return time.Time{}
	}
	if found := limitForm.FindStringSubmatch(problem.Detail); found != nil {
		if at, err := time.ParseInLocation("2006-01-02 15:04:05", strings.Replace(found[1], "T", " ", 1), time.UTC); err == nil {
			return at.Add(time.Minute)
		}
	}
	return now.Add(6 * time.Hour)
}

// askRenewal asks the authority when the certificate is to be renewed (RFC 9773), which may be sooner than
// its age says when it has to be revoked.
func (m *Manager) askRenewal(ctx context.Context, h host) error {
	one, err := m.own(ctx, h.name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestTime, errUnreachable)
	defer cancel()
	r := h.record
	r.Ask = time.Now().Add(askEvery)
	info, err := m.client.GetRenewalInfo(ctx, one.Leaf)
	switch {
	case err != nil:
		m.log.Debug("the authority does not say when to renew", "host", h.name, "error", err)
	default:
		r.Renewal = info.SelectedTime
		if info.RetryAfter != nil && info.RetryAfter.After(time.Now()) {
			r.Ask = *info.RetryAfter
		}
	}
	return m.keep(context.WithoutCancel(ctx), h.name, r)
}
