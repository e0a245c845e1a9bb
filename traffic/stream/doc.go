// Package stream carries traffic state from the control plane to data planes, and their reports back.
//
// The [Publisher] is told each service's state as it changes and keeps the last of each. A data plane
// first gets everything, and from then on what changed since it was last written to: changes that
// come while it is busy are merged, so a slow data plane slows nobody and misses no last state. The
// cost of a change does not depend on how much there is.
//
// Over a unix socket this is HTTP: the [Subscriber] asks GET /traffic/v1/updates, whose answer is
// lines of JSON and does not end, and posts each report to /traffic/v1/reports. The subscriber keeps
// what it got in a journal on disk and starts from it, so that a data plane works without a server.
// Certificates' keys are never in the journal.
package stream
