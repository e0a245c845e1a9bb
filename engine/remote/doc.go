// Package remote carries an engine over a unix socket: [Handler] serves any implementation of the
// contracts, [Client] is one whose engine is in another process.
//
// Calls are HTTP/1.1 POST requests with JSON of the root package's types. What follows something is
// answered as JSON lines, the last of which says how it ended, so that a peer's death is never taken
// for an end. Exec and Forward take over the connection (RFC 9110, section 7.8).
package remote
