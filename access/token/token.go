package token

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/access"
)

// Tokens are kept by id. A second object for each keeps its name from being given twice, and one for each of its
// keys leads from that to it.
const (
	kind     = "token"
	nameKind = "token-name"
	keyKind  = "token-key"
)

// usePrecision is how old LastUsed may be: a request writes only that often.
const usePrecision = 10 * time.Minute

// kept is a token as it is stored.
type kept struct {
	maru.Token
	Hash string `json:"hash"` // SHA-256 of the whole text, in hexadecimal
}

// Tokens keeps tokens in a store. Its methods are safe for concurrent use.
type Tokens struct{ store maru.Store }

// New uses the store.
func New(store maru.Store) *Tokens { return &Tokens{store} }

func key(id string) maru.Key { return maru.Key{Kind: kind, Name: id} }

func nameKey(name string) maru.Key { return maru.Key{Kind: nameKind, Name: name} }

// CreateToken makes a token with the name, role, scope, expiry and keys of wanted, and gives its text, which
// nobody can get again. Whether by may give that much is for the caller to check. Exists if there
// is a token of that name, or one with such a key.
func (t *Tokens) CreateToken(ctx context.Context, by string, wanted maru.Token) (text string, made maru.Token, err error) {
	now := time.Now().UTC()
	if err := check(wanted, now); err != nil {
		return "", maru.Token{}, err
	}
	keys, err := parseKeys(wanted.SSHKeys)
	if err != nil {
		return "", maru.Token{}, err
	}
	id, text := generate()
	sum := hash(text)
	made = wanted
	made.SSHKeys = keys.lines()
	made.ID, made.Created, made.By, made.LastUsed = id, now, by, time.Time{}
	changes := []maru.Change{
		{Key: key(id), Data: maru.Raw(kept{made, hex.EncodeToString(sum[:])})},
		{Key: nameKey(made.Name), Data: maru.Raw(id)},
		access.Recorded(by, made.Scope, "token-created", "token "+made.Name+" with role "+string(made.Role)),
	}
	for _, k := range keys {
		if _, err := t.store.Get(ctx, k.key()); maru.KindOf(err) != maru.NotFound {
			if err == nil {
				err = maru.WithHint(maru.Errorf(maru.Exists, "another token has the SSH key %s", k.fingerprint()), "revoke that one first, or make a key for this one")
			}
			return "", maru.Token{}, err
		}
		changes = append(changes, maru.Change{Key: k.key(), Data: maru.Raw(id)})
	}
	_, err = t.store.Commit(ctx, changes...)
	if maru.KindOf(err) == maru.Conflict {
		return "", maru.Token{}, maru.WithHint(maru.Errorf(maru.Exists, "there is a token named %q", made.Name),
			"choose another name, or revoke that one first")
	}
	if err != nil {
		return "", maru.Token{}, err
	}
	return text, made, nil
}

func check(t maru.Token, now time.Time) error {
	if err := maru.CheckName("token", t.Name); err != nil {
		return err
	}
	if !t.Role.Valid() {
		return maru.WithHint(maru.Errorf(maru.Invalid, "role %q is unknown", t.Role), "use read, deploy or admin")
	}
	if !t.Expires.IsZero() && !t.Expires.After(now) {
		return maru.Errorf(maru.Invalid, "token %q would be expired since %s", t.Name, t.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// Tokens lists all, sorted by name. Expired ones are among them until they are revoked.
func (t *Tokens) Tokens(ctx context.Context) ([]maru.Token, error) {
	objects, _, err := t.store.List(ctx, kind, "")
	if err != nil {
		return nil, err
	}
	tokens := make([]maru.Token, 0, len(objects))
	for _, o := range objects {
		k, err := decode(o)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, k.Token)
	}
	slices.SortFunc(tokens, func(a, b maru.Token) int { return strings.Compare(a.Name, b.Name) })
	return tokens, nil
}

func decode(o maru.Object) (kept, error) {
	var k kept
	if err := json.Unmarshal(o.Data, &k); err != nil {
		return kept{}, maru.Errorf(maru.Internal, "stored token %s: %w", o.Name, err)
	}
	return k, nil
}

// RevokeToken ends the token with that ID at once; NotFound.
func (t *Tokens) RevokeToken(ctx context.Context, by, id string) error {
	object, err := t.store.Get(ctx, key(id))
	if maru.KindOf(err) == maru.NotFound {
		return maru.Errorf(maru.NotFound, "there is no token %q", id)
	}
	if err != nil {
		return err
	}
	k, err := decode(object)
	if err != nil {
		return err
	}
	changes := []maru.Change{
		{Key: object.Key, Expect: maru.Any},
		{Key: nameKey(k.Name), Expect: maru.Any},
		access.Recorded(by, k.Scope, "token-revoked", "token "+k.Name),
	}
	keys, err := parseKeys(k.SSHKeys)
	if err != nil {
		return err
	}
	for _, k := range keys {
		changes = append(changes, maru.Change{Key: k.key(), Expect: maru.Any})
	}
	_, err = t.store.Commit(ctx, changes...)
	return err
}

// Authenticate gives the token that has the text. Any text that is not that of a valid token is
// Unauthenticated.
func (t *Tokens) Authenticate(ctx context.Context, text string) (maru.Token, error) {
	id, err := Parse(text)
	if err != nil {
		return maru.Token{}, err
	}
	object, err := t.store.Get(ctx, key(id))
	if maru.KindOf(err) == maru.NotFound {
		return maru.Token{}, unknown()
	}
	if err != nil {
		return maru.Token{}, err
	}
	k, err := decode(object)
	if err != nil {
		return maru.Token{}, err
	}
	sum := hash(text)
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(k.Hash)) != 1 {
		return maru.Token{}, unknown()
	}
	return t.admit(ctx, object, k)
}

// AuthenticateKey gives the token that has the public key, which is in the wire format of SSH (RFC 4253, section
// 6.6). Any that no valid token has is Unauthenticated.
func (t *Tokens) AuthenticateKey(ctx context.Context, wire []byte) (maru.Token, error) {
	public, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return maru.Token{}, maru.Errorf(maru.Unauthenticated, "this is no public key: %w", err)
	}
	link, err := t.store.Get(ctx, publicKey{public}.key())
	var id string
	if err == nil {
		err = json.Unmarshal(link.Data, &id)
	}
	var object maru.Object
	if err == nil {
		object, err = t.store.Get(ctx, key(id))
	}
	switch {
	case maru.KindOf(err) == maru.NotFound:
		return maru.Token{}, maru.Errorf(maru.Unauthenticated, "no token has the SSH key %s", ssh.FingerprintSHA256(public))
	case err != nil:
		return maru.Token{}, err
	}
	k, err := decode(object)
	if err != nil {
		return maru.Token{}, err
	}
	return t.admit(ctx, object, k)
}

// admit gives the token if it has not expired, and notes that it is in use.
func (t *Tokens) admit(ctx context.Context, object maru.Object, k kept) (maru.Token, error) {
	now := time.Now().UTC()
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return maru.Token{}, maru.WithHint(
			maru.Errorf(maru.Unauthenticated, "the token %q expired at %s", k.Name, k.Expires.Format(time.RFC3339)),
			"make a new one with maru login")
	}
	if now.Sub(k.LastUsed) >= usePrecision {
		if err := t.used(ctx, object, k, now); err != nil {
			return maru.Token{}, err
		}
	}
	return k.Token, nil
}

func unknown() error {
	return maru.WithHint(maru.Errorf(maru.Unauthenticated, "the server does not know this token"),
		"it was revoked, or is for another server: make a new one with maru login on the server's machine")
}

// used notes that the token is in use. Who was faster noted the same.
func (t *Tokens) used(ctx context.Context, object maru.Object, k kept, now time.Time) error {
	k.LastUsed = now
	_, err := t.store.Commit(ctx, maru.Change{Key: object.Key, Expect: object.Revision, Data: maru.Raw(k)})
	if maru.KindOf(err) == maru.Conflict {
		return nil
	}
	return err
}
