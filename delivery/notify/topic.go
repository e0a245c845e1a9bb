package notify

import (
	"slices"

	"github.com/marucloud/maru"
)

// topicOf tells what an event is about; "": nothing that is a topic of its own. Rollout gives what became of the
// event's rollout, as far as that is known.
func topicOf(e maru.Event, rollout func() maru.Delivery) maru.Topic {
	switch e.Type {
	case "run-" + string(maru.RunFailed):
		return maru.TopicFailedRuns
	case "run-" + string(maru.RunWaiting):
		return maru.TopicApprovals
	case "rollout-rolled-back":
		return maru.TopicRollbacks
	case "rollout-failed":
		if rollout().Phase == maru.Failed { // else it is on its way back, and its end is told
			return maru.TopicRollbacks
		}
	case "rollout-started":
		if rollout().Cause == "rollback" {
			return maru.TopicRollbacks
		}
	case "rollout-held":
		return maru.TopicHeldRollouts
	case "instance-crash-loop":
		return maru.TopicCrashLoops
	}
	return ""
}

// wants tells whether a receiver is to be told of an event.
func wants(r maru.Receiver, e maru.Event, topic maru.Topic) bool {
	return r.Scope.Covers(e.Scope) && !e.Time.Before(r.Created) &&
		(slices.Contains(r.Topics, maru.TopicEvents) || topic != "" && slices.Contains(r.Topics, topic))
}

// subject says in one line what an event is about.
func subject(e maru.Event) string {
	what := map[string]string{
		"run-failed": "a push failed", "run-waiting": "a push waits for approval",
		"rollout-rolled-back": "a rollout was taken back", "rollout-failed": "a rollout failed", "rollout-started": "a rollout began",
		"rollout-held": "a rollout is held", "instance-crash-loop": "an instance ends again and again",
		testType: "this is a test",
	}[e.Type]
	if what == "" {
		what = e.Type
	}
	where := e.Scope.App
	if e.Service != "" {
		where += "/" + e.Service
	}
	switch {
	case where == "":
		return "maru: " + what
	case e.Scope.Environment == "":
		return where + ": " + what
	}
	return where + " in " + e.Scope.Environment + ": " + what
}
