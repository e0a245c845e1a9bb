// Package authority is a certificate authority for one machine: for names such as shop.localhost,
// for which no public one gives certificates. People who trust its root see no warnings. The root
// can only vouch for local names, so that trusting it lends nobody the rest of the web.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/internal/atomicfile"
)

const (
	file     = "authority.json"
	keyName  = "authority/root" // what the sealed key is bound to
	rootLife = 10 * 365 * 24 * time.Hour
	backdate = time.Hour // for clocks that are a little late
	most     = 4096      // certificates kept in memory
)

// Sealer keeps the root's key secret on the disk. See package secrets.
type Sealer interface {
	Seal(value []byte, name string) []byte
	Open(sealed []byte, name string) ([]byte, error)
}

// Config tunes an authority. The zero value is the default.
type Config struct {
	// Name is part of the root's name, which browsers show; "": this machine's host name.
	Name string
	// Domains are what the root may vouch for when it is made, each with all names below it. Nil:
	// localhost, internal, and this machine's host name. "*" for all.
	Domains []string
	// Life is how long certificates are valid; 0: 90 days. They are renewed when a third is left.
	Life time.Duration
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Life < 0 || c.Life > 0 && c.Life < time.Hour {
		return maru.Errorf(maru.Invalid, "authority: certificates that are valid for %s are of no use", c.Life)
	}
	for _, d := range c.Domains {
		if d == "*" {
			continue
		}
		if _, err := plainName(d); err != nil || strings.HasPrefix(d, "*") {
			return maru.Errorf(maru.Invalid, "authority: domain %q is no domain name", d)
		}
	}
	return nil
}

func (c Config) withDefaults() Config {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	if c.Name == "" {
		c.Name = host
	}
	if c.Domains == nil {
		c.Domains = []string{"localhost", "internal"}
		if name, err := plainName(host); err == nil && !slices.Contains(c.Domains, name) {
			c.Domains = append(c.Domains, name)
		}
	}
	if c.Life == 0 {
		c.Life = 90 * 24 * time.Hour
	}
	return c
}

// Authority gives certificates. Its methods are safe for concurrent use.
type Authority struct {
	folder string
	sealer Sealer
	config Config

	mu     sync.Mutex
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued map[string]*leaf // by names, joined
}

// leaf is a certificate in both forms that are asked for.
type leaf struct {
	pem   maru.Certificate
	tls   *tls.Certificate
	renew time.Time
}

// kept is the authority's file.
type kept struct {
	Certificate string `json:"certificate"`         // PEM
	Sealed      []byte `json:"sealedKey,omitempty"` // PKCS #8
	Key         []byte `json:"key,omitempty"`       // the same, without a Sealer
}

// Open opens the authority in the folder, and makes its root on first use or once it has expired.
// Without a sealer the root's key is only protected by the file's mode.
func Open(folder string, sealer Sealer, config Config) (*Authority, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	a := &Authority{folder: folder, sealer: sealer, config: config.withDefaults(), issued: map[string]*leaf{}}
	data, err := atomicfile.Read(filepath.Join(folder, file))
	if err == nil {
		err = a.load(data)
	}
	if err == nil && time.Now().Before(a.root.NotAfter) {
		return a, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, maru.Errorf(maru.KindOf(err), "open authority: %w", err)
	}
	if err := atomicfile.MkdirAll(folder, 0o700); err != nil {
		return nil, maru.Errorf(maru.Internal, "open authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "make authority: %w", err)
	}
	root, err := newRoot(key, a.config, time.Now())
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "make authority: %w", err)
	}
	if err := a.become(root, key); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) load(data []byte) error {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return maru.Errorf(maru.Invalid, "%s is damaged: %w", file, err)
	}
	der := k.Key
	if k.Sealed != nil {
		if a.sealer == nil {
			return maru.Errorf(maru.Invalid, "the key in %s is sealed", file)
		}
		var err error
		if der, err = a.sealer.Open(k.Sealed, keyName); err != nil {
			return err
		}
	}
	root, key, err := parsePair([]byte(k.Certificate), der)
	if err != nil {
		return maru.Errorf(maru.Invalid, "%s is damaged: %w", file, err)
	}
	a.root, a.key = root, key
	return nil
}

// become keeps the root on the disk, and uses it from then on.
func (a *Authority) become(root *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return maru.Errorf(maru.Internal, "keep authority: %w", err)
	}
	k := kept{Certificate: string(certificatePEM(root.Raw)), Key: der}
	if a.sealer != nil {
		k.Key, k.Sealed = nil, a.sealer.Seal(der, keyName)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := atomicfile.Write(filepath.Join(a.folder, file), maru.Raw(k), 0o600); err != nil {
		return maru.Errorf(maru.Internal, "keep authority: %w", err)
	}
	a.root, a.key = root, key
	clear(a.issued)
	return nil
}

// Export gives all that Adopt needs, with the key unencrypted. It is for a backup that is encrypted as a
// whole.
func (a *Authority) Export() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "export authority: %w", err)
	}
	return maru.Raw(kept{Certificate: string(certificatePEM(a.root.Raw)), Key: der}), nil
}

// Adopt replaces the root by that of another authority, of which Export gave this, so that who trusts
// that one goes on trusting. What was given before stays valid for who trusts the root before.
func (a *Authority) Adopt(exported []byte) error {
	var k kept
	if err := json.Unmarshal(exported, &k); err != nil {
		return maru.Errorf(maru.Invalid, "adopt authority: %w", err)
	}
	root, key, err := parsePair([]byte(k.Certificate), k.Key)
	if err != nil {
		return maru.Errorf(maru.Invalid, "adopt authority: %w", err)
	}
	return a.become(root, key)
}

func (a *Authority) current() *x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.root
}

// RootPEM is the root's certificate, for those who want to trust it.
func (a *Authority) RootPEM() []byte { return certificatePEM(a.current().Raw) }

// Fingerprint is the SHA-256 of the root's certificate in hexadecimal, as browsers show it.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.current().Raw)
	return hex.EncodeToString(sum[:])
}

// Expires is when the root expires. The next Open after it makes another.
func (a *Authority) Expires() time.Time { return a.current().NotAfter }

// Permits tells whether the root may vouch for the host name or address. The error is of kind
// Invalid.
func (a *Authority) Permits(name string) error {
	plain, err := plainName(name)
	if err != nil {
		return err
	}
	root := a.current()
	if permitted(root, plain) {
		return nil
	}
	return maru.WithHint(
		maru.Errorf(maru.Invalid, "the local authority can't vouch for %s: only for %s and private addresses", plain, strings.Join(root.PermittedDNSDomains, ", ")),
		"use a name below localhost, or give a certificate for it from a public authority")
}

// Certificate gives a certificate for the host names and addresses ("*.NAME" is a name too), with
// its key. It is the same one until it should be renewed, so call it again from time to time. Names
// that the root may not vouch for are Invalid.
func (a *Authority) Certificate(names ...string) (maru.Certificate, error) {
	l, err := a.leaf(names)
	if err != nil {
		return maru.Certificate{}, err
	}
	return l.pem, nil
}

func (a *Authority) leaf(names []string) (*leaf, error) {
	if len(names) == 0 {
		return nil, maru.Errorf(maru.Invalid, "a certificate needs a name")
	}
	plain := make([]string, 0, len(names))
	for _, name := range names {
		if err := a.Permits(name); err != nil {
			return nil, err
		}
		p, err := plainName(name)
		if err != nil {
			return nil, err
		}
		plain = append(plain, p)
	}
	now, id := time.Now(), strings.Join(plain, " ")
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.issued[id]; l != nil && now.Before(l.renew) {
		return l, nil
	}
	l, err := a.issue(plain, now)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "certificate for %s: %w", id, err)
	}
	if len(a.issued) >= most {
		clear(a.issued)
	}
	a.issued[id] = l
	return l, nil
}

// TLSConfig serves with a certificate for the names, renewed as time passes, whatever name the
// client asks for.
func (a *Authority) TLSConfig(names ...string) (*tls.Config, error) {
	if _, err := a.leaf(names); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			l, err := a.leaf(names)
			if err != nil {
				return nil, err
			}
			return l.tls, nil
		},
	}, nil
}

// plainName gives a host name in lower case, or an address, in the form that certificates have.
func plainName(name string) (string, error) {
	if address, err := netip.ParseAddr(name); err == nil && address.Zone() == "" {
		return address.Unmap().String(), nil
	}
	plain := strings.ToLower(strings.TrimSuffix(name, "."))
	labels := strings.Split(strings.TrimPrefix(plain, "*."), ".")
	if len(plain) > 253 || slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || l[0] == '-' || l[len(l)-1] == '-'
	}) {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "%q is no host name", name), "write it in ASCII (xn--…), without port")
	}
	return plain, nil
}
