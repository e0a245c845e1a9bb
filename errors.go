package maru

import (
	"errors"
	"fmt"
)

// Kind classifies an error. The values are frozen: they travel on the wire.
type Kind string

// The kinds of error. An error without one is internal: people see an id, operators the detail.
const (
	NotFound        Kind = "not_found"       // it does not exist
	Exists          Kind = "exists"          // it exists already
	Conflict        Kind = "conflict"        // it changed meanwhile, or is in a state that forbids this; read again
	Invalid         Kind = "invalid"         // the request is wrong and stays wrong
	Denied          Kind = "denied"          // known, but not allowed
	Unauthenticated Kind = "unauthenticated" // no valid credentials
	Exhausted       Kind = "exhausted"       // a limit or quota is reached
	Unavailable     Kind = "unavailable"     // a part is away; try again
	Unsupported     Kind = "unsupported"     // well formed, and not done here
	RolledBack      Kind = "rolled_back"     // the rollout failed and the releases before it serve again
	Interrupted     Kind = "interrupted"     // the caller went away or its time was up
	Internal        Kind = "internal"        // a fault of Maru
)

// Error is an error with a kind, and a hint that tells a person what to do next.
type Error struct {
	Kind Kind
	Hint string
	err  error
}

// Error gives the message without the hint.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the wrapped error.
func (e *Error) Unwrap() error { return e.err }

// Errorf makes an error of the kind. It wraps like fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Hint: HintOf(err), err: err}
}

// WithHint adds what a person should do next. The kind stays. A nil error stays nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Hint: hint, err: err}
}

// KindOf gives the kind of the outermost [Error] in err's chain, else Internal; "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf gives the first hint in err's chain, or "".
func HintOf(err error) string {
	for {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.err
	}
}
