package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/store/memory"
)

func sshKey(t *testing.T, public any) ssh.PublicKey {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshKey(t, public)
}

func line(key ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(key)) }

func TestKeysOfATokenLetItsHolderIn(t *testing.T) {
	tokens := New(memory.New())
	one, two := newKey(t), newKey(t)
	token, _ := create(t, tokens, maru.Token{Name: "ann", Role: maru.RoleDeploy, SSHKeys: []string{strings.TrimSpace(line(one)) + " ann@laptop\n", line(two), line(one)}})
	if len(token.SSHKeys) != 2 || strings.Contains(token.SSHKeys[0], "laptop") {
		t.Errorf("kept %v", token.SSHKeys)
	}
	for _, key := range []ssh.PublicKey{one, two} {
		if got, err := tokens.AuthenticateKey(t.Context(), key.Marshal()); err != nil || got.ID != token.ID {
			t.Errorf("let in as %+v, %v", got, err)
		}
	}
	_, _, err := tokens.CreateToken(t.Context(), "ann", maru.Token{Name: "eve", Role: maru.RoleAdmin, SSHKeys: []string{line(two)}})
	wantKind(t, "another token with the key", err, maru.Exists)
	_, err = tokens.AuthenticateKey(t.Context(), newKey(t).Marshal())
	wantKind(t, "a key of nobody", err, maru.Unauthenticated)
	_, err = tokens.AuthenticateKey(t.Context(), []byte("no key"))
	wantKind(t, "no key", err, maru.Unauthenticated)
	if err := tokens.RevokeToken(t.Context(), "bob", token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = tokens.AuthenticateKey(t.Context(), one.Marshal())
	wantKind(t, "after the token's end", err, maru.Unauthenticated)
	create(t, tokens, maru.Token{Name: "ann", Role: maru.RoleRead, SSHKeys: []string{line(one)}})
}

func TestExpiryEndsKeys(t *testing.T) {
	tokens := New(memory.New())
	key := newKey(t)
	create(t, tokens, maru.Token{Name: "ann", Role: maru.RoleRead, SSHKeys: []string{line(key)}, Expires: time.Now().Add(50 * time.Millisecond)})
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := tokens.AuthenticateKey(t.Context(), key.Marshal())
		if maru.KindOf(err) == maru.Unauthenticated {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("an expired token's key: %v", err)
		}
	}
}

func TestKeysThatAreNotTaken(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(short)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &ssh.Certificate{Key: newKey(t), CertType: ssh.UserCert}
	if err := certificate.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"rsa of 1024 bits": line(sshKey(t, &short.PublicKey)), "certificate": line(certificate), "text": "ssh-ed25519 nonsense",
		"options": `command="ls" ` + line(newKey(t)), "two in one": line(newKey(t)) + line(newKey(t)),
	} {
		_, _, err := New(memory.New()).CreateToken(t.Context(), "ann", maru.Token{Name: "ann", Role: maru.RoleRead, SSHKeys: []string{text}})
		wantKind(t, what, err, maru.Invalid)
	}
}
