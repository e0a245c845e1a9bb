// Package http1 speaks HTTP/1.1 (RFC 9112) on both sides of the proxy: [Server] with clients, [Conn]
// and [Pool] with instances.
//
// It is strict where two readings of a message are possible, since the difference between them is how
// requests are smuggled: lines end with CRLF, a message has one length, names have no space behind
// them, lines are not folded. It takes nothing that net/http refuses; fuzzing compares the two. What it
// passes on it frames anew, so that nobody behind it reads lengths that a client wrote.
//
// A connection costs one goroutine, and a buffer only while something is in it. The strings of a
// message point into that buffer: they are good until the exchange ends.
package http1
