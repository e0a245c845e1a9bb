package maru

import "time"

// Receiver is told of what happens in its scope, whose empty parts match all.
type Receiver struct {
	Scope   Scope        `json:"scope"`
	Name    string       `json:"name"`
	Kind    ReceiverKind `json:"kind"`
	Address string       `json:"address"` // where it is, as far as that is no secret
	Topics  []Topic      `json:"topics"`
	Private bool         `json:"private,omitempty"` // its address may be on this machine, or in a private network
	Created time.Time    `json:"created"`
	By      string       `json:"by"`
}

// ReceiverKind is how a receiver is told.
type ReceiverKind string

// The kinds of receiver.
const (
	ReceiverWebhook ReceiverKind = "webhook" // CloudEvents, signed as standardwebhooks.com says
	ReceiverSlack   ReceiverKind = "slack"   // messages, as Slack's incoming webhooks take them
	ReceiverEmail   ReceiverKind = "email"   // by SMTP
)

// Topic is a kind of thing that receivers want to hear of.
type Topic string

// The topics.
const (
	TopicFailedRuns   Topic = "failed-runs"
	TopicRollbacks    Topic = "rollbacks"     // a rollout was taken back, failed and stayed, or somebody rolled back
	TopicHeldRollouts Topic = "held-rollouts" // traffic does not move on by itself
	TopicApprovals    Topic = "approvals"     // a run waits for one
	TopicCrashLoops   Topic = "crash-loops"   // an instance ends again and again
	TopicEvents       Topic = "events"        // everything
)

// Topics are all that there are, the last of which has the others in it.
func Topics() []Topic {
	return []Topic{TopicFailedRuns, TopicRollbacks, TopicHeldRollouts, TopicApprovals, TopicCrashLoops, TopicEvents}
}

// ReceiverTarget is where a receiver is, with its secrets.
type ReceiverTarget struct {
	URL    string `json:"url,omitempty"`    // of a webhook, or Slack's
	Secret string `json:"secret,omitempty"` // of a webhook's signatures: whsec_ and base64; "": one is made

	To       []string `json:"to,omitempty"` // of e-mail
	From     string   `json:"from,omitempty"`
	Server   string   `json:"server,omitempty"` // smtp://[USER@]HOST[:PORT] with STARTTLS, or smtps://
	Password string   `json:"password,omitempty"`
}

// ReceiverStatus is how the notifications of a receiver fare.
type ReceiverStatus struct {
	Receiver
	Waiting int       // to be sent
	GivenUp int       // of the last 7 days, that could not be sent
	Error   string    // why the last that failed did
	Next    time.Time // when the next of those that failed is tried again
}
