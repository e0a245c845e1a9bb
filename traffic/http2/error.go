package http2

import (
	"errors"
	"fmt"
)

// Code says why a stream or connection ends (RFC 9113, 7).
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
)

var codes = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
}

func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c]
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// failure ends a connection.
type failure struct {
	code Code
	why  string
}

func (f *failure) Error() string { return f.code.String() + ": " + f.why }

func fails(code Code, why string) error { return &failure{code, why} }

var (
	// errDone says that a connection has no further use.
	errDone = errors.New("the connection has no further use")

	errGone    = errors.New("the client went away")
	errCut     = errors.New("the request's body is not read any more")
	errStalled = errors.New("the client did not go on in time")
	errBegun   = errors.New("the answer has begun already")
	errTooMuch = errors.New("the answer is longer than it said")
	errShort   = errors.New("the answer is shorter than it said")
)

// refusal is an answer to a request that is not given to the handler.
type refusal struct {
	status int
	what   string
}

func (r *refusal) Error() string { return r.what }

// errMalformed says that a request is none (RFC 9113, 8.1.1).
var errMalformed = errors.New("the request is malformed")
