package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Add keeps a receiver in the place of one of that name and scope. Secret is the key of a webhook's signatures, if
// one was made. The error is of kind Invalid.
func (n *Notifier) Add(ctx context.Context, by string, r maru.Receiver, t maru.ReceiverTarget) (made maru.Receiver, secret string, err error) {
	if err := maru.CheckName("receiver", r.Name); err != nil {
		return r, "", err
	}
	if len(r.Topics) == 0 {
		all := maru.Topics()
		r.Topics = all[:len(all)-1]
	}
	for _, topic := range r.Topics {
		if !slices.Contains(maru.Topics(), topic) {
			return r, "", maru.WithHint(maru.Errorf(maru.Invalid, "the topic %q is unknown", topic), fmt.Sprintf("there are %s", words(maru.Topics())))
		}
	}
	if r.Kind == maru.ReceiverWebhook && t.Secret == "" {
		t.Secret = newSecret()
		secret = t.Secret
	}
	if r.Address, err = addressOf(r, t); err != nil {
		return r, "", err
	}
	r.By, r.Created = by, time.Now().UTC()
	key := receiverKey(r.Scope, r.Name)
	stored := receiver{Receiver: r, Sealed: n.sealer.Seal(maru.Raw(t), boundTo(key))}
	_, err = n.store.Commit(ctx, maru.Change{Key: key, Data: maru.Raw(stored), Expect: maru.Any},
		recorded(by, r.Scope, "receiver-added", fmt.Sprintf("%s %s at %s is told of %s", r.Kind, r.Name, r.Address, words(r.Topics))))
	if err != nil {
		return r, "", err
	}
	n.more()
	return r, secret, nil
}

func words(topics []maru.Topic) string {
	var all []string
	for _, t := range topics {
		all = append(all, string(t))
	}
	return strings.Join(all, ", ")
}

func boundTo(key maru.Key) string { return key.Kind + " " + key.Name }

// addressOf checks where a receiver is, and gives what of that is no secret.
func addressOf(r maru.Receiver, t maru.ReceiverTarget) (string, error) {
	switch r.Kind {
	case maru.ReceiverWebhook, maru.ReceiverSlack:
		u, err := url.Parse(t.URL)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
			return "", maru.WithHint(maru.Errorf(maru.Invalid, "that is no address of a webhook"), "it looks like https://example.com/path")
		}
		if u.Scheme == "http" && !r.Private {
			return "", maru.WithHint(maru.Errorf(maru.Invalid, "a webhook at a public address is sent to by https only"), "use https://, or --private for an address in your own network")
		}
		if r.Kind == maru.ReceiverWebhook {
			if _, err := secretKey(t.Secret); err != nil {
				return "", err
			}
		}
		return u.Scheme + "://" + u.Host + "/…", nil
	case maru.ReceiverEmail:
		if _, err := mailServerOf(t.Server); err != nil {
			return "", err
		}
		if len(t.To) == 0 {
			return "", maru.Errorf(maru.Invalid, "there is nobody to send e-mail to")
		}
		for _, address := range append([]string{t.From}, t.To...) {
			if _, err := mail.ParseAddress(address); err != nil || strings.ContainsAny(address, "\r\n") {
				return "", maru.Errorf(maru.Invalid, "%q is no e-mail address", address)
			}
		}
		return strings.Join(t.To, ", "), nil
	}
	return "", maru.Errorf(maru.Invalid, "receivers of the kind %q are unknown", r.Kind)
}

// Receivers lists those of a scope, whose empty parts match all, sorted, with how their notifications fare.
func (n *Notifier) Receivers(ctx context.Context, scope maru.Scope) ([]maru.ReceiverStatus, error) {
	stored, _, err := n.store.List(ctx, kindReceiver, "")
	if err != nil {
		return nil, err
	}
	messages, err := list[message](ctx, n.store, kindMessage, "")
	if err != nil {
		return nil, err
	}
	var out []maru.ReceiverStatus
	for _, o := range stored {
		r, err := decode[receiver](o)
		if err != nil {
			return nil, err
		}
		if scope.Covers(r.Scope) {
			out = append(out, status(r.Receiver, o.Name, messages))
		}
	}
	return out, nil
}

// status sums the messages of a receiver up.
func status(r maru.Receiver, name string, messages map[string]message) maru.ReceiverStatus {
	s := maru.ReceiverStatus{Receiver: r}
	var newest time.Time
	for key, m := range messages {
		if receiverOf(key) != name {
			continue
		}
		if m.Error != "" && !m.Created.Before(newest) {
			s.Error, newest = m.Error, m.Created
		}
		if !m.GivenUp.IsZero() {
			s.GivenUp++
			continue
		}
		s.Waiting++
		if m.Attempts > 0 && (s.Next.IsZero() || m.Next.Before(s.Next)) {
			s.Next = m.Next
		}
	}
	return s
}

// Troubles tells in words of receivers that an app's events go to and that could not be told of some.
func (n *Notifier) Troubles(ctx context.Context, app maru.Scope) ([]string, error) {
	all, err := n.Receivers(ctx, maru.Scope{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range all {
		if !r.Scope.Covers(app) {
			continue
		}
		switch {
		case r.GivenUp > 0:
			out = append(out, fmt.Sprintf("%s was not told of %d things in the last 7 days: %s", r.Name, r.GivenUp, r.Error))
		case r.Error != "":
			out = append(out, fmt.Sprintf("%s can't be told of %d things at the moment: %s", r.Name, r.Waiting, r.Error))
		}
	}
	return out, nil
}

// get gives a receiver and where it is; NotFound.
func (n *Notifier) get(ctx context.Context, name string) (receiver, maru.ReceiverTarget, error) {
	var r receiver
	var t maru.ReceiverTarget
	key := maru.Key{Kind: kindReceiver, Name: name}
	o, err := n.store.Get(ctx, key)
	if maru.KindOf(err) == maru.NotFound {
		return r, t, maru.WithHint(maru.Errorf(maru.NotFound, "there is no receiver %q in exactly this scope", name[strings.LastIndexByte(name, '/')+1:]), "`maru notify ls` lists them")
	}
	if err == nil {
		r, err = decode[receiver](o)
	}
	if err != nil {
		return r, t, err
	}
	open, err := n.sealer.Open(r.Sealed, boundTo(key))
	if err == nil {
		err = json.Unmarshal(open, &t)
	}
	if err != nil {
		return r, t, maru.Errorf(maru.Internal, "open where the receiver %s is: %w", name, err)
	}
	return r, t, nil
}

// Remove forgets a receiver of exactly this scope, and what it was yet to be told; NotFound.
func (n *Notifier) Remove(ctx context.Context, by string, scope maru.Scope, name string) error {
	key := receiverKey(scope, name)
	if _, _, err := n.get(ctx, key.Name); maru.KindOf(err) == maru.NotFound {
		return err
	}
	messages, _, err := n.store.List(ctx, kindMessage, key.Name+"/")
	if err != nil {
		return err
	}
	for part := range slices.Chunk(messages, atOnce) {
		var changes []maru.Change
		for _, o := range part {
			changes = append(changes, maru.Change{Key: o.Key, Expect: maru.Any})
		}
		if _, err := n.store.Commit(ctx, changes...); err != nil {
			return err
		}
	}
	_, err = n.store.Commit(ctx, maru.Change{Key: key, Expect: maru.Any}, recorded(by, scope, "receiver-removed", "receiver "+name))
	return err
}

// testType is the type of the event that a test sends.
const testType = "notification-test"

// Test tells a receiver of exactly this scope something at once. How that went wrong is the error; NotFound.
func (n *Notifier) Test(ctx context.Context, by string, scope maru.Scope, name string) error {
	r, t, err := n.get(ctx, receiverKey(scope, name).Name)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	m := message{
		Name:  fmt.Sprintf("%s/%s-test", scope, now.Format("20060102T150405.000000000Z")),
		Event: maru.Event{Time: now, Scope: scope, Type: testType, Message: "Maru can tell " + name + " of things.", By: by},
	}
	if err := n.send(ctx, r.Receiver, t, m); err != nil {
		return maru.WithHint(maru.Errorf(maru.Unavailable, "%s at %s can't be told: %s", name, r.Address, plain(err)), maru.HintOf(err))
	}
	return nil
}
