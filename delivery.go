package maru

import "time"

// Origin is where in Git a deployment comes from.
type Origin struct {
	Branch string `json:"branch"`
	Commit string `json:"commit"`
	// Tree is the object name of the commit's files: two commits with the same files have the same one.
	Tree string `json:"tree,omitempty"`
	// Before is the commit that was last deployed there before this one; "": none is known.
	Before string `json:"before,omitempty"`
	// Commits are the changes that it brings, newest first: those that Before has not. Of a first deployment it is
	// the commit alone.
	Commits []Commit `json:"commits,omitempty"`
	More    int      `json:"more,omitempty"` // how many older ones are left out: there are too many
}

// Commit is a change in Git.
type Commit struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`              // when it was written: the author's time, which a rebase keeps
	Reverts []string  `json:"reverts,omitempty"` // the commits that it takes back, as git revert notes them
}

// Delivery is what is kept of a rollout long after it is forgotten itself: what became of it, and when. It is
// stored with the rollout's first and last change. The DORA figures are made of it.
type Delivery struct {
	Scope   Scope        `json:"scope"`
	Number  int          `json:"number"` // of the rollout
	Phase   RolloutPhase `json:"phase"`
	Cause   string       `json:"cause"`             // as in Rollout
	Of      int          `json:"of,omitempty"`      // as in Rollout
	Origin  *Origin      `json:"origin,omitempty"`  // nil: it was not deployed from Git
	Preview bool         `json:"preview,omitempty"` // its environment is one of several, for a branch each
	Reason  string       `json:"reason,omitempty"`
	By      string       `json:"by"`
	Started time.Time    `json:"started"`
	Exposed time.Time    `json:"exposed,omitzero"` // as in Rollout
	Served  time.Time    `json:"served,omitzero"`  // as in Rollout
	Ended   time.Time    `json:"ended,omitzero"`
}

// DoraQuestion asks for the DORA figures of a time.
type DoraQuestion struct {
	Since, Until time.Time
	By           DoraPeriodLength // also by day or week; "": not
	Location     *time.Location   // whose days those are; nil: UTC
}

// DoraPeriodLength is the length of the parts of a time.
type DoraPeriodLength string

// The lengths. Weeks begin on Mondays.
const (
	DoraDay  DoraPeriodLength = "day"
	DoraWeek DoraPeriodLength = "week"
)

// Dora has the figures of software delivery that the DORA reports compare teams by, of an app in an environment.
type Dora struct {
	Scope Scope `json:"scope"`
	// Since and Until are the time that the figures are of: what was asked for, but not from before the first
	// deployment that is known.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Incomplete says that there were deployments before Since, of the time asked for, that are not known any
	// more: they are from before figures were kept, or too old.
	Incomplete bool         `json:"incomplete,omitempty"`
	Total      DoraFigures  `json:"total"`
	Bands      DoraBands    `json:"bands"`
	Periods    []DoraPeriod `json:"periods,omitempty"`
}

// DoraPeriod has the figures of a day or week.
type DoraPeriod struct {
	Start time.Time `json:"start"`
	DoraFigures
}

// DoraFigures are counted by when deployments served, or else first reached users.
type DoraFigures struct {
	Deployments   int     `json:"deployments"`   // that reached users
	PerDay        float64 `json:"perDay"`        // of them
	WithoutCommit int     `json:"withoutCommit"` // of them, those not from Git: they have no lead time
	Stopped       int     `json:"stopped"`       // rollouts that failed before they reached anybody; not among the deployments

	LeadTime Spread `json:"leadTime"` // of commits, from when they were written until all traffic went to them
	Undated  int    `json:"undated"`  // commits without a lead time: they are dated later than they served, or too many came at once

	Failed      int     `json:"failed"`      // of the deployments
	FailureRate float64 `json:"failureRate"` // from 0 to 1
	Restore     Spread  `json:"restore"`     // of failed ones, from when they first reached users until they were made up for
	Open        int     `json:"open"`        // of the failed, those not made up for yet
}

// Spread sums durations up.
type Spread struct {
	Count  int           `json:"count"`
	Median time.Duration `json:"median"`
	P90    time.Duration `json:"p90"`
}

// DoraBand is how a figure compares with those of other teams.
type DoraBand string

// The bands, from the best.
const (
	DoraElite  DoraBand = "elite"
	DoraHigh   DoraBand = "high"
	DoraMedium DoraBand = "medium"
	DoraLow    DoraBand = "low"
)

// DoraBands has the band of each figure; "": there is nothing to tell it from.
type DoraBands struct {
	Frequency   DoraBand `json:"frequency,omitempty"`
	LeadTime    DoraBand `json:"leadTime,omitempty"`
	FailureRate DoraBand `json:"failureRate,omitempty"`
	Restore     DoraBand `json:"restore,omitempty"`
}

// TakenBack is a deployment from Git that users had, and that was taken back in its environment.
type TakenBack struct {
	Origin  Origin    `json:"origin"`
	Rollout int       `json:"rollout"` // that brought it
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"` // who rolled it back; "": its own rollout was taken back
	Reason  string    `json:"reason"`
	Current bool      `json:"current"` // nothing was deployed there since that stayed
}

// GitStatus holds an environment against the branch that goes there.
type GitStatus struct {
	Branch    string `json:"branch"`
	Tip       string `json:"tip"`                 // the branch's newest commit
	Commit    string `json:"commit,omitempty"`    // what the environment runs; "": that is not from Git, or not known any more
	Rollout   int    `json:"rollout,omitempty"`   // that brought the commit
	TakenBack string `json:"takenBack,omitempty"` // why what is on the branch was taken back; "": it was not
	Revert    string `json:"revert,omitempty"`    // the branch whose commit takes it back in Git, too
	Message   string `json:"message,omitempty"`   // how they differ, in words; "": they don't
}
