package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// The kinds of object that this package owns.
const (
	kindReceiver = "receiver"      // SCOPE/NAME: receiver
	kindMessage  = "notification"  // SCOPE/NAME/REVISION of the event: message, SCOPE and NAME being the receiver's
	kindCursor   = "notify-cursor" // "events": maru.Revision up to which events are in the outbox
)

// The kinds that are read here. Control and others own them.
const (
	kindEvent    = "event"    // SCOPE/TIME-ID: maru.Event
	kindDelivery = "delivery" // SCOPE/NUMBER: maru.Delivery
)

// receiver is a receiver as it is stored.
type receiver struct {
	maru.Receiver
	Sealed []byte `json:"sealed"` // maru.ReceiverTarget
}

// message is what one receiver is to be told of.
type message struct {
	Name     string     `json:"name"` // of the event's object
	Event    maru.Event `json:"event"`
	Created  time.Time  `json:"created"`
	Attempts int        `json:"attempts,omitempty"`
	Next     time.Time  `json:"next,omitzero"` // not before then
	Error    string     `json:"error,omitempty"`
	Alone    bool       `json:"alone,omitempty"` // it failed by its content: the others need not wait
	GivenUp  time.Time  `json:"givenUp,omitzero"`
}

// id names the message to its receiver: the same each time that it is sent.
func (m message) id() string {
	sum := sha256.Sum256([]byte(m.Name))
	return "msg_" + hex.EncodeToString(sum[:12])
}

func receiverKey(scope maru.Scope, name string) maru.Key {
	return maru.Key{Kind: kindReceiver, Name: scope.String() + "/" + name}
}

func messageKey(r maru.Receiver, revision maru.Revision) maru.Key {
	return maru.Key{Kind: kindMessage, Name: fmt.Sprintf("%s/%s/%020d", r.Scope, r.Name, revision)}
}

// receiverOf gives the name of the receiver's object from that of a message.
func receiverOf(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

var cursorKey = maru.Key{Kind: kindCursor, Name: "events"}

func decode[T any](o maru.Object) (T, error) {
	var v T
	if err := json.Unmarshal(o.Data, &v); err != nil {
		return v, maru.Errorf(maru.Internal, "stored %s %q: %w", o.Kind, o.Name, err)
	}
	return v, nil
}

// list gives all objects of a kind whose names begin with prefix, by name.
func list[T any](ctx context.Context, store maru.Store, kind, prefix string) (map[string]T, error) {
	objects, _, err := store.List(ctx, kind, prefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]T, len(objects))
	for _, o := range objects {
		if all[o.Name], err = decode[T](o); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// recorded is the event that somebody changed receivers.
func recorded(by string, scope maru.Scope, kind, text string) maru.Change {
	e := maru.Event{Time: time.Now().UTC(), Scope: scope, Type: kind, Message: text, By: by}
	sum := sha256.Sum256(maru.Raw(e))
	name := scope.String() + "/" + e.Time.Format("20060102T150405.000000000Z") + "-" + hex.EncodeToString(sum[:4])
	return maru.Change{Key: maru.Key{Kind: kindEvent, Name: name}, Data: maru.Raw(e), Expect: maru.Any}
}
