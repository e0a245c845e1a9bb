package policy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// UserHeader tells a service who asks. Nobody but the gateway sets it.
const UserHeader = "X-Maru-User"

func newAuth(a *maru.Auth, path string) (step, error) {
	if a == nil {
		return nil, nil
	}
	switch a.Kind {
	case maru.BasicAuth:
		return newBasic(a)
	case maru.KeyAuth:
		return newKeys(a)
	case maru.TokenAuth:
		return newTokens(a)
	case maru.ForwardedAuth:
		return newAuthorizer(a.Forward)
	case maru.LoginAuth:
		return newLogin(a, path)
	}
	return nil, maru.Errorf(maru.Invalid, "clients can't be known by %q", a.Kind)
}

// admit takes note of who asks. What proved it is not for the service.
func admit(x *Exchange, user, token, header string) {
	x.User, x.Token = user, token
	x.Out.Edits = append(x.Out.Edits, message.Edit{Op: message.Remove, Name: header}, message.Edit{Op: message.Set, Name: UserHeader, Value: user})
}

func unauthorized(challenge, what string) *Answer {
	return &Answer{
		Status: http.StatusUnauthorized, Title: "Who are you?", Reason: "not authenticated",
		What: what, Do: "Send what you were given to come in with.",
		Header: message.Header{{Name: "WWW-Authenticate", Value: challenge}},
	}
}

// basic asks for a name and a password (RFC 7617).
type basic struct {
	hashes    map[string]string
	challenge string
	secret    [sha256.Size]byte

	mu    sync.Mutex
	right map[[sha256.Size]byte]struct{} // by what a password that was right is known again
}

// mostRight bounds how many right passwords are known again without their hash.
const mostRight = 10_000

// hashing bounds how many passwords are hashed at once: it takes long on purpose, and must not take all
// processors.
var hashing = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// nobody is the hash that an unknown user's password is held against, so that it takes as long.
var nobody = sync.OnceValue(func() string {
	hash, err := bcrypt.GenerateFromPassword([]byte("nobody"), bcrypt.DefaultCost)
	if err != nil {
		panic("policy: " + err.Error()) // only of a cost or a length that is not allowed
	}
	return string(hash)
})

func newBasic(a *maru.Auth) (step, error) {
	realm := a.Realm
	if realm == "" {
		realm = "Restricted"
	}
	if strings.ContainsAny(realm, "\r\n\\\"") {
		return nil, maru.Errorf(maru.Invalid, "%q is not a realm", realm)
	}
	b := &basic{hashes: map[string]string{}, challenge: fmt.Sprintf(`Basic realm="%s", charset="UTF-8"`, realm), right: map[[sha256.Size]byte]struct{}{}}
	for _, c := range a.Credentials {
		b.hashes[c.User] = c.Hash
	}
	if _, err := rand.Read(b.secret[:]); err != nil {
		return nil, maru.Errorf(maru.Internal, "random bytes: %w", err)
	}
	return b, nil
}

func (b *basic) take(x *Exchange) *Answer {
	user, password, ok := basicOf(x.Request.Header)
	if !ok || !b.is(x.Client.Context, user, password) {
		return unauthorized(b.challenge, "A name and a password are needed here.")
	}
	admit(x, user, user, "Authorization")
	return nil
}

func basicOf(h message.Header) (user, password string, ok bool) {
	scheme, rest, _ := strings.Cut(h.Get("Authorization"), " ")
	if !message.Equal(scheme, "Basic") {
		return "", "", false
	}
	decoded, err := base64.StdEncoding.DecodeString(message.Trim(rest))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}

// is tells whether the password is the user's.
func (b *basic) is(client func() context.Context, user, password string) bool {
	mac := hmac.New(sha256.New, b.secret[:])
	fmt.Fprintf(mac, "%d:%s%s", len(user), user, password)
	var known [sha256.Size]byte
	mac.Sum(known[:0])
	b.mu.Lock()
	_, right := b.right[known]
	b.mu.Unlock()
	if right {
		return true
	}
	hash, exists := b.hashes[user]
	if !exists {
		hash = nobody()
	}
	select {
	case hashing <- struct{}{}:
	case <-client().Done():
		return false
	}
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	<-hashing
	if err != nil || !exists {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.right) >= mostRight {
		clear(b.right)
	}
	b.right[known] = struct{}{}
	return true
}

// keys asks for a key that was given out.
type keys struct {
	users  map[[sha256.Size]byte]string
	header string
}

func newKeys(a *maru.Auth) (step, error) {
	k := &keys{users: map[[sha256.Size]byte]string{}, header: a.Header}
	for _, c := range a.Credentials {
		sum, err := hex.DecodeString(c.Hash)
		if err != nil || len(sum) != sha256.Size {
			return nil, maru.Errorf(maru.Invalid, "the key of %s is not hashed", c.User)
		}
		k.users[[sha256.Size]byte(sum)] = c.User
	}
	return k, nil
}

func (k *keys) take(x *Exchange) *Answer {
	key, header := k.keyOf(x.Request.Header)
	sum := sha256.Sum256([]byte(key))
	user, ok := k.users[sum]
	if key == "" || !ok {
		return unauthorized("Bearer", "A key is needed here.")
	}
	admit(x, user, string(sum[:]), header)
	return nil
}

// keyOf gives the key that a request has, and the header that it is in.
func (k *keys) keyOf(h message.Header) (key, header string) {
	if k.header != "" && !message.Equal(k.header, "Authorization") {
		return h.Get(k.header), k.header
	}
	if k.header == "" && h.Has("X-Api-Key") {
		return h.Get("X-Api-Key"), "X-Api-Key"
	}
	scheme, rest, _ := strings.Cut(h.Get("Authorization"), " ")
	if !message.Equal(scheme, "Bearer") {
		return "", "Authorization"
	}
	return message.Trim(rest), "Authorization"
}
