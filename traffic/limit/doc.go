// Package limit bounds how many requests are at a service at once, so that one that gets more than it can
// do goes on doing what it can: what is too much is refused at once, the least important first, instead of
// waiting where it makes all others slow, and a service that hangs holds no more of its callers' requests
// than that.
//
// The bound is given, or found. What is found follows from Little's law, as in TCP's BBR (Cardwell et al.,
// 2016): a service that answers X requests a second and needs R seconds for one when nothing waits has X·R
// at work; more than that only wait. X is the most that was answered of late while the bound was reached,
// R the average while it was not. When it is reached for so long that R is not known any more, fewer
// requests than are at work are let through for a moment, in which R shows. Unlike gradients of the latency
// (as in Netflix's concurrency-limits) this does not take long overload for the normal state, and moves to
// the right bound in one step.
package limit
