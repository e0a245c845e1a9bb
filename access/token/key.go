package token

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/marucloud/maru"
)

const (
	mostKeys    = 16
	leastRSABit = 2048
)

// publicKey is one of SSH.
type publicKey struct{ ssh.PublicKey }

type publicKeys []publicKey

// parseKeys reads lines of authorized_keys (sshd(8)); Invalid. Each key is given once.
func parseKeys(lines []string) (publicKeys, error) {
	if len(lines) > mostKeys {
		return nil, maru.WithHint(maru.Errorf(maru.Invalid, "a token can't have %d SSH keys", len(lines)), "make several tokens")
	}
	var keys publicKeys
	for _, line := range lines {
		parsed, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil || len(strings.TrimSpace(string(rest))) > 0:
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "%.40q is no public SSH key", line), "give what is in a file such as ~/.ssh/id_ed25519.pub")
		case len(options) > 0:
			return nil, maru.WithHint(maru.Errorf(maru.Invalid, "the SSH key has the options %s, which are not kept here", strings.Join(options, ",")), "give the key alone")
		}
		k := publicKey{parsed}
		if err := k.check(); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(keys, func(other publicKey) bool { return other.key() == k.key() }) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// check refuses what is no longer safe.
func (k publicKey) check() error {
	hint := "make one with: ssh-keygen -t ed25519"
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if has, ok := k.PublicKey.(ssh.CryptoPublicKey); ok {
			if key, ok := has.CryptoPublicKey().(*rsa.PublicKey); ok && key.N.BitLen() >= leastRSABit {
				return nil
			}
		}
		return maru.WithHint(maru.Errorf(maru.Invalid, "the SSH key %s is too short", k.fingerprint()), hint)
	}
	return maru.WithHint(maru.Errorf(maru.Invalid, "SSH keys of the type %s are not taken", k.Type()), hint)
}

// key is where the store leads from it to its token.
func (k publicKey) key() maru.Key {
	sum := sha256.Sum256(k.Marshal())
	return maru.Key{Kind: keyKind, Name: hex.EncodeToString(sum[:])}
}

func (k publicKey) fingerprint() string { return ssh.FingerprintSHA256(k.PublicKey) }

// lines are the keys without their comments.
func (k publicKeys) lines() []string {
	var lines []string
	for _, one := range k {
		lines = append(lines, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(one.PublicKey))))
	}
	return lines
}
