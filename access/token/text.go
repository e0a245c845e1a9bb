// Package token makes and checks the tokens that people and programs use to reach the server from
// elsewhere.
//
// A token is maru_ID_SECRET, where SECRET ends with a checksum, so that a mistyped one is told apart
// from a revoked one, and scanners find leaked ones without asking the server. The server keeps a hash of it only.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/marucloud/maru"
)

const (
	prefix       = "maru_"
	idSize       = 10
	secretSize   = 52 // of 5 bits each
	checksumSize = 7
	textSize     = len(prefix) + idSize + 1 + secretSize + checksumSize
	alphabet     = "abcdefghijklmnopqrstuvwxyz234567"
)

var encoding = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// generate makes a token's text.
func generate() (id, text string) {
	random := strings.ToLower(rand.Text() + rand.Text() + rand.Text())
	id = random[:idSize]
	text = prefix + id + "_" + random[idSize:idSize+secretSize]
	return id, text + checksum(text)
}

func checksum(text string) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text)))
	return encoding.EncodeToString(sum)
}

// Parse gives the id of a token's text. It does not tell whether the server knows it. The error is of
// kind Unauthenticated, and does not show the text.
func Parse(text string) (id string, err error) {
	malformed := func(reason string) error {
		return maru.WithHint(maru.Errorf(maru.Unauthenticated, "this is no token: %s", reason),
			"a token looks like maru_…_…: copy it whole, or make a new one with maru login on the server's machine")
	}
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return "", malformed("it does not begin with " + prefix)
	}
	if len(text) != textSize || rest[idSize] != '_' {
		return "", malformed("it is too long or too short")
	}
	id = rest[:idSize]
	if strings.Trim(id, alphabet) != "" || strings.Trim(rest[idSize+1:], alphabet) != "" {
		return "", malformed("it has a character that tokens have not")
	}
	signed := text[:textSize-checksumSize]
	if text[textSize-checksumSize:] != checksum(signed) {
		return "", malformed("a character is wrong")
	}
	return id, nil
}

// hash is what is kept of a token. The secret is random and long, so that nothing slower is needed.
func hash(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }
