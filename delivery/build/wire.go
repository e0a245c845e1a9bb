package build

import (
	"cmp"
	"errors"

	"github.com/marucloud/maru"
)

// Paths on the builder's socket. Each takes a POST with JSON and answers with a stream of messages,
// one JSON value a line, of which the last has Image, Freed or Error.
const (
	buildPath = "/v1/build"
	prunePath = "/v1/prune"
)

// maxRequest bounds a request; the source does not travel in it.
const maxRequest = 16 << 20

type message struct {
	Event *Event      `json:"event,omitempty"`
	Image *maru.Image `json:"image,omitempty"`
	Freed *int64      `json:"freed,omitempty"`
	Error *wireError  `json:"error,omitempty"`
}

type pruneRequest struct {
	Keep int64 `json:"keep"`
}

type wireError struct {
	Kind    maru.Kind  `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
	Step    *StepError `json:"step,omitempty"`
}

func toWire(err error) *wireError {
	w := &wireError{Kind: maru.KindOf(err), Message: err.Error(), Hint: maru.HintOf(err)}
	errors.As(err, &w.Step)
	return w
}

func (w *wireError) err() error {
	kind := cmp.Or(w.Kind, maru.Internal)
	err := maru.Errorf(kind, "%s", cmp.Or(w.Message, "the build failed for no reason given"))
	if w.Step != nil {
		err = maru.Errorf(kind, "%w", w.Step)
	}
	if w.Hint != "" {
		err = maru.WithHint(err, w.Hint)
	}
	return err
}
