package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access/secrets"
	"github.com/marucloud/maru/store/memory"
)

func box(t *testing.T) *secrets.Box {
	t.Helper()
	b, err := secrets.OpenBox(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// issued is a certificate with its key, by which others can be signed.
type issued struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func issue(t *testing.T, by *issued, key crypto.Signer, change func(*x509.Certificate)) *issued {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "x", Organization: []string{"Test"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}

func ec(t *testing.T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pair gives the certificates as a chain, with the key of the first.
func pair(t *testing.T, chain ...*issued) maru.Certificate {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(chain[0].key)
	if err != nil {
		t.Fatal(err)
	}
	c := maru.Certificate{Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	for _, one := range chain {
		c.Chain = append(c.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.cert.Raw})...)
	}
	return c
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
}

func hosts(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

// TestAdded keeps a certificate with its key sealed, replaces it, and forgets it.
func TestAdded(t *testing.T) {
	store := memory.New()
	v := New(store, box(t))
	root := issue(t, nil, ec(t, elliptic.P256()), authority)
	first := pair(t, issue(t, root, ec(t, elliptic.P256()), hosts("a.example.com", "*.b.example.com")), root)
	info, err := v.Add(t.Context(), "alice", "shop", first)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(info.Hosts, []string{"a.example.com", "*.b.example.com"}) || info.State != maru.CertificateValid || info.By != "alice" {
		t.Errorf("%+v", info)
	}
	objects, _, err := store.List(t.Context(), kind, "")
	if err != nil || len(objects) != 1 || bytes.Contains(objects[0].Data, []byte("PRIVATE")) {
		t.Fatal(objects, err)
	}
	block, _ := pem.Decode(first.Key)
	if bytes.Contains(objects[0].Data, block.Bytes[40:60]) {
		t.Error("the key is in the store as it is")
	}
	second := pair(t, issue(t, root, ec(t, elliptic.P384()), hosts("a.example.com")), root)
	if _, err := v.Add(t.Context(), "bob", "shop", second); err != nil {
		t.Fatal(err)
	}
	all, err := v.All(t.Context())
	if err != nil || len(all) != 1 || !bytes.Equal(all[0].Certificate.Key, second.Key) || !all[0].Certificate.Public {
		t.Fatal(all, err)
	}
	for host, want := range map[string]bool{"a.example.com": true, "A.example.com": true, "b.example.com": false, "x.a.example.com": false, "*.example.com": false} {
		if all[0].Covers(host, time.Now()) != want {
			t.Errorf("%s is covered: %v", host, !want)
		}
	}
	if all[0].Covers("a.example.com", time.Now().Add(2*time.Hour)) {
		t.Error("covered by one that has expired")
	}
	if _, err := New(store, box(t)).All(t.Context()); maru.KindOf(err) == "" || err == nil {
		t.Error("another box opens it")
	}
	if err := v.Remove(t.Context(), "bob", "shop"); err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(t.Context(), "bob", "shop"); maru.KindOf(err) != maru.NotFound || maru.HintOf(err) == "" {
		t.Error(err)
	}
	events, _, err := store.List(t.Context(), "event", "")
	if err != nil || len(events) != 3 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

// TestRefused takes nothing that the gateway could not show.
func TestRefused(t *testing.T) {
	v := New(memory.New(), box(t))
	root := issue(t, nil, ec(t, elliptic.P256()), authority)
	other := issue(t, nil, ec(t, elliptic.P256()), authority)
	leaf := issue(t, root, ec(t, elliptic.P256()), hosts("a.example.com"))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := pair(t, leaf, root)
	for name, c := range map[string]maru.Certificate{
		"nothing":       {},
		"no key":        {Chain: good.Chain},
		"another's key": {Chain: good.Chain, Key: pair(t, root).Key},
		"no host":       pair(t, issue(t, root, ec(t, elliptic.P256()), hosts())),
		"expired": pair(t, issue(t, root, ec(t, elliptic.P256()), func(c *x509.Certificate) {
			c.DNSNames, c.NotAfter = []string{"a.example.com"}, time.Now().Add(-time.Minute)
		})),
		"wrong chain": pair(t, leaf, other),
		"short key":   pair(t, issue(t, root, weak, hosts("a.example.com"))),
		"small curve": pair(t, issue(t, root, ec(t, elliptic.P224()), hosts("a.example.com"))),
	} {
		if _, err := v.Add(t.Context(), "alice", "x", c); maru.KindOf(err) != maru.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Add(t.Context(), "alice", "No Name", good); maru.KindOf(err) != maru.Invalid {
		t.Error(err)
	}
	if _, err := v.Add(t.Context(), "alice", "x", good); err != nil {
		t.Error(err)
	}
}
