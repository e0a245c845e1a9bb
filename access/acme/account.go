package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"

	"github.com/mholt/acmez/v3/acme"

	"github.com/marucloud/maru"
)

// accountKind is that of accounts, by the hash of the authority's directory.
const accountKind = "acme-account"

// account is one as it is kept. It is kept before the authority knows of it: asked again with the same
// key, that gives the same account.
type account struct {
	Directory string `json:"directory"`
	Location  string `json:"location,omitempty"` // "": not registered yet
	Email     string `json:"email"`
	Sealed    []byte `json:"sealedKey"`
}

func rootsOf(pem []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem) // Validate has seen that it holds some
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func accountKey(directory string) maru.Key {
	sum := sha256.Sum256([]byte(directory))
	return maru.Key{Kind: accountKind, Name: hex.EncodeToString(sum[:8])}
}

// account gives the installation's account, and registers it on first use or when its address is another.
func (m *Manager) account(ctx context.Context) (acme.Account, error) {
	key, a, revision, err := m.keptAccount(ctx)
	if err != nil {
		return acme.Account{}, err
	}
	wanted := acme.Account{Contact: []string{"mailto:" + m.cfg.Email}, TermsOfServiceAgreed: true, PrivateKey: key}
	if a.Location != "" && a.Email == m.cfg.Email {
		wanted.Location, wanted.Status = a.Location, acme.StatusValid
		return wanted, nil
	}
	if m.cfg.BindingID != "" {
		if err := wanted.SetExternalAccountBinding(ctx, m.client.Client, acme.EAB{KeyID: m.cfg.BindingID, MACKey: m.cfg.BindingKey}); err != nil {
			return acme.Account{}, maru.Errorf(maru.Invalid, "acme: bind the account: %w", err)
		}
	}
	var made acme.Account
	if a.Location == "" {
		made, err = m.client.NewAccount(ctx, wanted)
	} else {
		wanted.Location = a.Location
		made, err = m.client.UpdateAccount(ctx, wanted)
	}
	if err != nil {
		return acme.Account{}, err
	}
	a.Location, a.Email = made.Location, m.cfg.Email
	if _, err := m.store.Commit(ctx, maru.Change{Key: accountKey(m.cfg.Directory), Expect: revision, Data: maru.Raw(a)}); err != nil {
		return acme.Account{}, err
	}
	made.PrivateKey = key
	return made, nil
}

// keptAccount gives the account that is kept, or keeps a new one.
func (m *Manager) keptAccount(ctx context.Context) (*ecdsa.PrivateKey, account, maru.Revision, error) {
	at := accountKey(m.cfg.Directory)
	object, err := m.store.Get(ctx, at)
	if maru.KindOf(err) == maru.NotFound {
		return m.newAccount(ctx, at)
	}
	if err != nil {
		return nil, account{}, 0, err
	}
	var a account
	if err := json.Unmarshal(object.Data, &a); err != nil {
		return nil, account{}, 0, maru.Errorf(maru.Internal, "stored ACME account: %w", err)
	}
	der, err := m.sealer.Open(a.Sealed, at.Kind+" "+at.Name)
	if err != nil {
		return nil, account{}, 0, err
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return nil, account{}, 0, maru.Errorf(maru.Internal, "stored ACME account: %w", err)
	}
	return key, a, object.Revision, nil
}

func (m *Manager) newAccount(ctx context.Context, at maru.Key) (*ecdsa.PrivateKey, account, maru.Revision, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, account{}, 0, maru.Errorf(maru.Internal, "make an ACME account: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, account{}, 0, maru.Errorf(maru.Internal, "make an ACME account: %w", err)
	}
	a := account{Directory: m.cfg.Directory, Email: m.cfg.Email, Sealed: m.sealer.Seal(der, at.Kind+" "+at.Name)}
	revision, err := m.store.Commit(ctx, maru.Change{Key: at, Data: maru.Raw(a)})
	return key, a, revision, err
}
