// Package message is HTTP as the data plane's policy sees it, whatever version brought it: a request
// with its header in order, and a client that is answered.
//
// Strings of a message may point into the buffers of its connection: they are good until the exchange
// ends. Who keeps one for longer clones it.
package message

import (
	"context"
	"io"
	"net"
	"net/netip"
)

// Request is what a client asks.
type Request struct {
	Method string
	Target string // path and query as they were sent, or "*"
	Path   string // of the target, decoded
	Host   string // of the target, or else of the Host field, with its port
	Scheme string // http, https
	TLS    *TLS   // nil: in the clear
	Major  int    // version of HTTP
	Minor  int
	Client netip.Addr
	Name   string // Client in words
	Header Header // without Host, Content-Length and Transfer-Encoding

	Length int64       // of the body; -1: not known
	Body   RequestBody // nil: none
	// Expects says that the client waits to be told to send its body, which reading it does.
	Expects bool
	Upgrade string // protocol that the client asks for on a stream of its own, other than by the Upgrade field
	Origin  any    // what the listener knows of the connection
}

// Repeatable tells whether the request changes nothing (RFC 9110, 9.2.1) and is all in its header, so that it can
// be sent once more.
func (r *Request) Repeatable() bool {
	return (r.Method == "GET" || r.Method == "HEAD" || r.Method == "OPTIONS") && r.Body == nil && r.Upgrade == "" && !r.Header.Has("Upgrade")
}

// RequestBody is read by one goroutine at a time.
type RequestBody interface {
	io.Reader
	// Buffered is how many bytes, of the body's end all of it, can be read without waiting for the
	// client; whole tells that the body ends with them.
	Buffered() (n int, whole bool)
	// Cut ends a Read that waits for the client, and all later ones.
	Cut()
	// Trailer gives what came behind the body, once Read gave io.EOF.
	Trailer() Header
}

// Response is the beginning of an answer.
type Response struct {
	Status int
	Header Header // without Content-Length and Transfer-Encoding
	Length int64  // as announced, also where no body follows; -1: not known
	Body   Body   // nil: none
	// Switched gives the connection on which another protocol is spoken after status 101, whose bytes
	// that were read already are read again.
	Switched func() net.Conn
}

// Body is an answer's body, piece by piece.
type Body interface {
	// Next gives the next piece, which is good until the next call. At the end it gives io.EOF, maybe
	// with the last piece.
	Next() ([]byte, error)
	// Ready tells whether Next has something to give without waiting.
	Ready() bool
	// Trailer gives what came behind the body, once Next gave io.EOF.
	Trailer() Header
	// Close ends the exchange with the one who answers.
	Close()
}

// Client is who is answered, by one goroutine. An error means that the client is gone.
type Client interface {
	// Context ends when the client goes away. Asking for it has the client watched, which costs
	// something.
	Context() context.Context
	// Interim passes a 1xx answer on.
	Interim(status int, h Header) error
	// Begin begins the answer. What is written may be sent later, at the latest by Flush or when the
	// exchange ends.
	Begin(*Response) error
	// Write sends a piece of the body. The client does not keep it.
	Write([]byte) error
	Flush() error
	// End ends the answer, with a trailer where that can be sent.
	End(trailer Header) error
	// Switch answers with 101 and hands the connection over, with what was read from it already.
	Switch(h Header) (net.Conn, io.Reader, error)
}

// Handler answers requests. An error says that the answer can't be ended properly, so that the client
// must learn of it by the end of its connection.
type Handler interface {
	Serve(c Client, r *Request) error
}
