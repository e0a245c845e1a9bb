// Package balance decides which endpoint of a service gets a request. The decisions are pure: the moment,
// the dice and what is known of each endpoint are given to them.
//
// The default is that of Prequal (Wydrowski et al., "Load is not what you should balance", NSDI 2024):
// an endpoint with more requests in flight than most is hot; of those that are cold the one with the
// lowest expected latency is chosen, and when all are hot the one with the fewest requests. Prequal's
// clients are many and send probes to learn both. Here all requests to a service of a machine pass one
// proxy, which knows the requests in flight exactly, and measures the latency of each answer; so there
// are no probes. What is not asked for a while is not measured either: an estimate fades into that of the
// best endpoint as it gets older, until the endpoint is tried again; the worse it was, the later.
//
// Latency is kept by the number of requests in flight at the request's arrival, as in Prequal, so that
// what is expected is the latency at the present load. Failures are no latencies: they raise the share of
// failures, which makes an endpoint look slower than it is, so that one that fails fast draws nothing.
package balance
