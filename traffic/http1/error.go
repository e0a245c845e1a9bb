package http1

import (
	"errors"
	"net/http"
)

// Error says why a message is not taken, and how a client is told.
type Error struct {
	Status int
	What   string
}

func (e *Error) Error() string { return e.What }

func bad(what string) error { return &Error{http.StatusBadRequest, what} }

var (
	// RFC 9112, 2.2: a bare CR or LF is where one reader sees a line end and another sees none.
	errLineEnd  = bad("A line does not end with CRLF.")
	errTooLarge = &Error{http.StatusRequestHeaderFieldsTooLarge, "The header is too large."}
	errFields   = &Error{http.StatusRequestHeaderFieldsTooLarge, "The header has too many fields."}
	errTarget   = &Error{http.StatusRequestURITooLong, "The request's target is too long."}
	errVersion  = &Error{http.StatusHTTPVersionNotSupported, "HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here."}
	errCoding   = &Error{http.StatusNotImplemented, "Of transfer codings, only chunked is known here."}
	errExpect   = &Error{http.StatusExpectationFailed, "Of expectations, only 100-continue is known here."}
	errChunk    = bad("The chunked body is malformed.")

	// errPreface says that the client speaks HTTP/2.
	errPreface = errors.New("the client speaks HTTP/2")
	// errSplit says that a header would have ended before its end.
	errSplit = errors.New("a field has a line end in it")
)
