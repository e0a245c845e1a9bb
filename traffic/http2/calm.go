package http2

import "time"

// What a client may do that makes work and brings nobody anything costs points, of which a connection has
// some, and gets more as time passes and as it is sent what it asked for. One without any is ended with
// ENHANCE_YOUR_CALM (RFC 9113, 10.5).
const (
	mostPoints   = 2000
	pointsSecond = 100
	// earned is for each frame of an answer: a client may well return a window for its stream and
	// one for the connection, and measure the way with a ping.
	earned = 4

	costFrame = 1 // settings, ping, priority, a window's update, what is empty, what nobody knows
	// costReset is for a stream that a client resets or makes the server reset, before it was answered
	// (CVE-2023-44487, CVE-2025-8671): 333 at once, more than a client may have open.
	costReset = 6
)

// calm is a connection's points.
type calm struct {
	points int
	since  time.Time // up to when those of time are counted
}

func newCalm(now time.Time) calm { return calm{mostPoints, now} }

// earn adds points.
func (c *calm) earn(n int) { c.points = min(c.points+n, mostPoints) }

// spend takes points; false when there are none left. It looks at the clock only when it has to.
func (c *calm) spend(n int) bool {
	if c.points -= n; c.points >= 0 {
		return true
	}
	now := time.Now()
	c.earn(int(min(now.Sub(c.since), time.Hour) * pointsSecond / time.Second))
	c.since = now
	return c.points >= 0
}

var errCalm = fails(EnhanceYourCalm, "the client makes work and asks for nothing")
