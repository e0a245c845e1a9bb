// Package judge decides on a canary: it compares the requests that went to a new release with those
// that went to the old one at the same moments, on error ratio and latency, and may be asked after
// every request. Pure, like all of plan: no clock, no randomness, no goroutines, constant memory and a
// constant amount of work for each record.
//
// # What it relies on
//
// The gateway draws for each request whether the canary gets it, with a known chance w, without
// regard to how the request will end. So, whatever happens to the service meanwhile (bursts, the time
// of day, an incident that hits every instance), if the releases are equal then what became of a
// request says nothing about which release had it: among the failed requests, or those slower than
// any latency, the canary's share is w. Nothing is assumed about the outcomes, neither that they are
// independent nor that they have a distribution at all. This is the conditional test of Lindon and
// Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022), extended from failures
// to latencies by ranks, as Howard and Ramdas do in "Sequential Estimation of Quantiles with
// Applications to A/B Testing and Best-Arm Identification" (Bernoulli 28, 2022). Lindon, Sanden and
// Shirikian, "Rapid Regression Detection in Software Deployments through Sequential Testing" (KDD
// 2022), use both for this purpose.
//
// What breaks the draw breaks the judge: users who stay with a release and fail many times (count
// them once), a canary that gets other requests than the old release, or an incident of just the
// canary's instance, which nothing in the records tells from a bad release.
//
// # Why looking often is harmless
//
// Each question is a game with fair odds if the releases are equal. Let a release with r times the old
// one's frequency of the outcome y be the alternative: of the requests that end in y it would have the
// share wr/(wr+1-w) instead of w. A bet on that share multiplies the player's wealth by
//
//	r/(wr+1-w)   if the canary had the request,
//	1/(wr+1-w)   if the old release had it,
//
// whose mean is w·r/(wr+1-w) + (1-w)/(wr+1-w) = 1: the wealth is a test martingale for any r chosen
// before the request, and starts at 1. By Ville's inequality (1939) the chance that it ever reaches
// 1/α is at most α, over all moments together: that, not a threshold for one look, is the false
// alarms' bound. 1/wealth is a p-value at any moment (Ramdas, Grünwald, Vovk and Shafer,
// "Game-Theoretic Statistics and Safe Anytime-Valid Inference", Statistical Science 38, 2023).
//
// The wealth starts divided over players with different alternatives and one who does not bet; the sum
// is a martingale too, and soon that of the best player. Now and then a two-hundredth of it is divided
// again (the fixed share of Herbster and Warmuth, "Tracking the Best Expert", 1998; what only moves
// wealth between players changes no sum), so that a release that goes bad after hours of health is
// caught as well.
//
// For a release that is better than the old one the wealth is a supermartingale: the r of all players
// grow with the latency, and are above 1 for failures, below for successes, so that moving the canary's
// outcomes the other way lowers the mean. For that reason differences up to a tolerance can be forgiven
// too: the canary's latencies are divided by 1.1, and a bet on failures is against odds of 1.1 to 1,
// before the comparison.
//
// # The budget
//
// An equal release is taken back with a chance of at most 1%: half of it belongs to errors, half to
// latency; of each half four fifths to the comparison and a fifth to the absolute ceilings. A release
// that is worse by the margin of equivalence, in any one respect, is called equivalent with a chance of
// at most 1%, as every respect has to be shown at that level.
//
// # The questions
//
//   - More failures than the old release? Players bet on odds of failing that are 1.5 to 1,000 times
//     the old release's.
//   - Slower? Each request's latency becomes a rank among the old release's earlier ones. Players bet
//     that all of the canary is slower, or that some share of its requests is among the slowest half,
//     fifth, twentieth … of the old release.
//   - Above an absolute ceiling? A bet that the canary is above it, and one that the old release is below
//     it over the same time: both have to be won. An incident that hits both, or a limit that neither
//     keeps, makes the judge wait, not turn back.
//   - Equivalent? For each margin a bet that the canary is within it, on the difference of the two
//     releases' counts, each weighed by the chance of its draw (Waudby-Smith and Ramdas, "Estimating
//     Means of Bounded Random Variables by Betting", JRSS B 86, 2024). Its wealth is a supermartingale
//     for every release that is worse by the margin throughout: where 1/wealth falls to 1%, the margin
//     has left the 99% confidence sequence.
package judge
