// Package table is the data plane's state: what services there are, what leads to them and which of
// their endpoints take a request.
//
// A step of state costs what it changes, however much there is beside it: each service has its own
// immutable [State], swapped by one atomic pointer, and every index (hosts, virtual addresses,
// callers, names) is split into shards and changed key by key. Readers take no lock that a writer
// holds for long. Endpoints live on from step to step, and so do their counters and health.
package table
