package control

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// The kinds of object that control owns.
const (
	KindApp     = "app"     // SCOPE: maru.App as deployed
	KindRelease = "release" // SCOPE/SERVICE/NUMBER: maru.Release
	KindService = "service" // SCOPE/SERVICE: maru.ServiceState
	KindRollout = "rollout" // SCOPE/NUMBER: maru.Rollout
	KindEvent   = "event"   // SCOPE/TIME-ID: maru.Event

	KindDelivery = "delivery" // SCOPE/NUMBER: maru.Delivery, of the rollout with that number
)

// Numbers are padded, so that names sort as numbers do.
const numberWidth = 9

// AppKey names the app of a scope.
func AppKey(scope maru.Scope) maru.Key { return maru.Key{Kind: KindApp, Name: scope.String()} }

// ServiceKey names the state of a service.
func ServiceKey(id maru.ServiceID) maru.Key {
	return maru.Key{Kind: KindService, Name: id.String()}
}

// ReleaseKey names a release.
func ReleaseKey(id maru.ServiceID, number int) maru.Key {
	return maru.Key{Kind: KindRelease, Name: id.String() + "/" + padded(number)}
}

// RolloutKey names a rollout.
func RolloutKey(scope maru.Scope, number int) maru.Key {
	return maru.Key{Kind: KindRollout, Name: scope.String() + "/" + padded(number)}
}

// DeliveryKey names what is kept of a rollout for the DORA figures.
func DeliveryKey(scope maru.Scope, number int) maru.Key {
	return maru.Key{Kind: KindDelivery, Name: scope.String() + "/" + padded(number)}
}

// EventKey names an event. The same event has the same name.
func EventKey(e maru.Event) maru.Key {
	hash := fnv.New32a()
	_, _ = hash.Write(maru.Raw(e))
	at := e.Time.UTC().Format(eventTime)
	return maru.Key{Kind: KindEvent, Name: fmt.Sprintf("%s/%s-%08x", e.Scope, at, hash.Sum32())}
}

const eventTime = "20060102T150405.000000000Z"

// EventPrefix is where the names of a scope's events of that time and later begin. Names are compared
// as strings.
func EventPrefix(scope maru.Scope, since time.Time) string {
	return scope.String() + "/" + since.UTC().Format(eventTime)
}

func padded(n int) string { return fmt.Sprintf("%0*d", numberWidth, n) }

// Decode reads an object of one of control's kinds. The error is of kind Internal and names the object.
func Decode[T any](key maru.Key, data json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return v, maru.Errorf(maru.Internal, "stored %s %q: %w", key.Kind, key.Name, err)
	}
	return v, nil
}

// scopeOf gives the scope that an object of one of control's kinds belongs to, and what follows it.
func scopeOf(name string) (scope maru.Scope, rest string, ok bool) {
	parts := strings.SplitN(name, "/", 4)
	if len(parts) < 3 {
		return maru.Scope{}, "", false
	}
	if len(parts) == 4 {
		rest = parts[3]
	}
	return maru.Scope{Project: parts[0], Environment: parts[1], App: parts[2]}, rest, true
}

// releaseName takes apart what follows the scope in a release's name.
func releaseName(rest string) (service string, number int, ok bool) {
	service, text, found := strings.Cut(rest, "/")
	number, err := strconv.Atoi(text)
	return service, number, found && err == nil
}

// rolloutName takes apart what follows the scope in a rollout's name.
func rolloutName(rest string) (number int, ok bool) {
	number, err := strconv.Atoi(rest)
	return number, err == nil
}
