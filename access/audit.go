// Package access is about who may do what. Its folders keep tokens, grants and secrets, and hold the
// local certificate authority. What it keeps, it keeps together with an event that tells who did it.
package access

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// eventTime sorts as text.
const eventTime = "20060102T150405.000000000Z"

// Recorded is the change that keeps that somebody did something of a kind such as "token-created", with a
// message for people. It is committed together with what was done. What concerns no single app has
// a scope with empty parts.
func Recorded(by string, scope maru.Scope, kind, message string) maru.Change {
	now := time.Now().UTC()
	name := scope.String() + "/" + now.Format(eventTime) + "-" + strings.ToLower(rand.Text()[:8])
	return maru.Change{
		Key:  maru.Key{Kind: "event", Name: name},
		Data: maru.Raw(maru.Event{Time: now, Scope: scope, Type: kind, Message: message, By: by}),
	}
}
