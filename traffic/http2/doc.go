// Package http2 is a server of HTTP/2 (RFC 9113), with header compression (RFC 7541) and extended CONNECT
// (RFC 8441). A client's priorities are read and left out of account.
//
// A connection costs one goroutine, which reads, and a buffer only while something is in it. Each request
// runs in a goroutine of a pool, whose stack has grown already. What those write is gathered in the
// connection's buffer, and whoever wants it sent sends what all of them wrote; the goroutine that reads
// never waits for the client to read.
//
// What a client may make the server do without asking for anything is counted, and a connection that does
// too much of it is ended with ENHANCE_YOUR_CALM: see [calm]. What is read strictly elsewhere is here as
// well (traffic/http1): the requests that come out of a connection can be sent on by HTTP/1.1.
package http2
