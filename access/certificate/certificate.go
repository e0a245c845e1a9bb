// Package certificate keeps TLS certificates in a store, their keys sealed: those that people gave, and
// those that were got by ACME.
package certificate

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
)

// kind is that of the stored objects. Their name is the source, a slash, and the certificate's name.
const kind = "certificate"

// leastRSA is the length of RSA keys, in bits, that are taken from on.
const leastRSA = 2048

// Sealer keeps keys secret in the store. See package secrets.
type Sealer interface {
	Seal(value []byte, name string) []byte
	Open(sealed []byte, name string) ([]byte, error)
}

// kept is a certificate as it is stored.
type kept struct {
	Chain   []byte    `json:"chain"` // PEM
	Sealed  []byte    `json:"sealedKey"`
	Updated time.Time `json:"updated"`
	By      string    `json:"by"`
}

// Vault keeps certificates. Its methods are safe for concurrent use.
type Vault struct {
	store  maru.Store
	sealer Sealer
}

// New uses the store and the sealer.
func New(store maru.Store, sealer Sealer) *Vault { return &Vault{store, sealer} }

func keyOf(source, name string) maru.Key { return maru.Key{Kind: kind, Name: source + "/" + name} }

func boundTo(key maru.Key) string { return key.Kind + " " + key.Name }

// Is tells whether the key is one of a certificate, for those who watch the store.
func Is(key maru.Key) bool { return key.Kind == kind }

// Add keeps a certificate that a person gave, in the place of an earlier one of that name. What is no
// certificate with its key, or of no use, is Invalid.
func (v *Vault) Add(ctx context.Context, by, name string, given maru.Certificate) (maru.CertificateInfo, error) {
	if err := maru.CheckName("certificate", name); err != nil {
		return maru.CertificateInfo{}, err
	}
	leaf, err := Check(given, time.Now())
	if err != nil {
		return maru.CertificateInfo{}, err
	}
	change, info := v.Change(maru.CertificateGiven, name, by, given, leaf)
	_, err = v.store.Commit(ctx, change,
		access.Recorded(by, maru.Scope{}, "certificate-added", "certificate "+name+" for "+strings.Join(info.Hosts, ", ")))
	return info, err
}

// Change is that by which a certificate is kept.
func (v *Vault) Change(source, name, by string, c maru.Certificate, leaf *x509.Certificate) (maru.Change, maru.CertificateInfo) {
	key := keyOf(source, name)
	k := kept{Chain: c.Chain, Sealed: v.sealer.Seal(c.Key, boundTo(key)), Updated: time.Now().UTC(), By: by}
	return maru.Change{Key: key, Expect: maru.Any, Data: maru.Raw(k)}, describe(source, name, k, leaf, time.Now())
}

// Remove forgets a certificate that a person gave; NotFound.
func (v *Vault) Remove(ctx context.Context, by, name string) error {
	object, err := v.store.Get(ctx, keyOf(maru.CertificateGiven, name))
	if maru.KindOf(err) == maru.NotFound {
		return maru.WithHint(maru.Errorf(maru.NotFound, "certificate %q does not exist", name), "`maru certificate ls` lists them; those that Maru got by itself end with their routes")
	}
	if err != nil {
		return err
	}
	_, err = v.store.Commit(ctx, maru.Change{Key: object.Key, Expect: object.Revision},
		access.Recorded(by, maru.Scope{}, "certificate-removed", "certificate "+name))
	return err
}

// Forget is the change by which one that Maru got by itself is forgotten.
func (v *Vault) Forget(source, name string) maru.Change {
	return maru.Change{Key: keyOf(source, name), Expect: maru.Any}
}

// One is a certificate that is kept.
type One struct {
	Info        maru.CertificateInfo
	Certificate maru.Certificate
	Leaf        *x509.Certificate
}

// Covers tells whether it is good for the host at that time.
func (o One) Covers(host string, now time.Time) bool {
	if now.After(o.Leaf.NotAfter) || now.Before(o.Leaf.NotBefore) {
		return false
	}
	if strings.HasPrefix(host, "*.") {
		return slices.ContainsFunc(o.Leaf.DNSNames, func(name string) bool { return strings.EqualFold(name, host) })
	}
	return o.Leaf.VerifyHostname(host) == nil
}

// All gives all that are kept, sorted by source and name. One that can't be opened is an error beside the
// others.
func (v *Vault) All(ctx context.Context) ([]One, error) {
	objects, _, err := v.store.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	var all []One
	var failed []error
	for _, o := range objects {
		one, err := v.open(o)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, one)
	}
	return all, errors.Join(failed...)
}

func (v *Vault) open(o maru.Object) (One, error) {
	var k kept
	if err := json.Unmarshal(o.Data, &k); err != nil {
		return One{}, maru.Errorf(maru.Internal, "stored certificate %q: %w", o.Name, err)
	}
	key, err := v.sealer.Open(k.Sealed, boundTo(o.Key))
	if err != nil {
		return One{}, err
	}
	pair, err := tls.X509KeyPair(k.Chain, key)
	if err != nil {
		return One{}, maru.Errorf(maru.Internal, "stored certificate %q: %w", o.Name, err)
	}
	source, name, _ := strings.Cut(o.Name, "/")
	return One{
		Info:        describe(source, name, k, pair.Leaf, time.Now()),
		Certificate: maru.Certificate{Chain: k.Chain, Key: key, Public: true},
		Leaf:        pair.Leaf,
	}, nil
}

func describe(source, name string, k kept, leaf *x509.Certificate, now time.Time) maru.CertificateInfo {
	info := Describe(source, name, leaf, now)
	info.Updated, info.By = k.Updated, k.By
	return info
}

// Describe tells of a certificate what people want to know.
func Describe(source, name string, leaf *x509.Certificate, now time.Time) maru.CertificateInfo {
	info := maru.CertificateInfo{
		Name: name, Source: source, Hosts: slices.Clone(leaf.DNSNames), Issuer: issuer(leaf), State: maru.CertificateValid,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
	for _, ip := range leaf.IPAddresses {
		info.Hosts = append(info.Hosts, ip.String())
	}
	switch {
	case now.After(leaf.NotAfter):
		info.State, info.Message = maru.CertificateExpired, "it has expired"
	case now.Before(leaf.NotBefore):
		info.State, info.Message = maru.CertificatePending, "it is not valid yet"
	}
	return info
}

func issuer(leaf *x509.Certificate) string {
	if name := leaf.Issuer.CommonName; len(leaf.Issuer.Organization) > 0 && name != "" {
		if strings.HasPrefix(name, leaf.Issuer.Organization[0]) {
			return name
		}
		return leaf.Issuer.Organization[0] + " " + leaf.Issuer.CommonName
	}
	return leaf.Issuer.String()
}

// Check tells whether the certificate can be used, and gives the one at the front of its chain; Invalid.
func Check(c maru.Certificate, now time.Time) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "certificate: %w", err),
			"give the chain in PEM, the server's own certificate first, and its key, in PEM without a passphrase")
	}
	leaf := pair.Leaf
	switch {
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "certificate: it names no host"), "browsers look at its subject alternative names only")
	case now.After(leaf.NotAfter):
		return nil, maru.Errorf(maru.Invalid, "certificate: it expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	if err := strong(leaf.PublicKey); err != nil {
		return nil, err
	}
	return leaf, chained(pair.Certificate)
}

func strong(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < leastRSA {
			return maru.Errorf(maru.Invalid, "certificate: its RSA key has %d bits; at least %d are needed", k.N.BitLen(), leastRSA)
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return maru.Errorf(maru.Invalid, "certificate: its key is on %s, which is too small", k.Curve.Params().Name)
		}
	}
	return nil
}

// chained holds each certificate against the next one, which must have signed it.
func chained(chain [][]byte) error {
	var before *x509.Certificate
	for i, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return maru.Errorf(maru.Invalid, "certificate: number %d of the chain: %w", i+1, err)
		}
		if before != nil && before.CheckSignatureFrom(cert) != nil {
			return maru.WithHint(maru.Errorf(maru.Invalid, "certificate: number %d of the chain, %s, did not sign the one before it", i+1, cert.Subject),
				"put the certificates in order: the server's, then that of who signed it, and so on")
		}
		before = cert
	}
	return nil
}
