package registry

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/marucloud/maru"
)

// coded is an error with the code that the specification has for it, and maybe a status of its own.
type coded struct {
	code   string
	status int
	err    error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// problem gives err a code of the specification's table of errors.
func problem(code string, err error) error { return &coded{code: code, err: err} }

// known gives errors of kind NotFound the code, and leaves others as they are.
func known(code string, err error) error {
	if maru.KindOf(err) == maru.NotFound {
		return problem(code, err)
	}
	return err
}

// statuses are the codes of the specification with the status that each has.
var statuses = map[string]int{
	"BLOB_UNKNOWN":          http.StatusNotFound,
	"BLOB_UPLOAD_INVALID":   http.StatusBadRequest,
	"BLOB_UPLOAD_UNKNOWN":   http.StatusNotFound,
	"DIGEST_INVALID":        http.StatusBadRequest,
	"MANIFEST_BLOB_UNKNOWN": http.StatusBadRequest,
	"MANIFEST_INVALID":      http.StatusBadRequest,
	"MANIFEST_UNKNOWN":      http.StatusNotFound,
	"NAME_INVALID":          http.StatusBadRequest,
	"NAME_UNKNOWN":          http.StatusNotFound,
	"SIZE_INVALID":          http.StatusBadRequest,
	"UNAUTHORIZED":          http.StatusUnauthorized,
	"DENIED":                http.StatusForbidden,
	"UNSUPPORTED":           http.StatusMethodNotAllowed,
}

// kinds are the errors that the specification has no code for, or that any request may have.
var kinds = map[maru.Kind]coded{
	maru.NotFound:        {code: "NAME_UNKNOWN"},
	maru.Unauthenticated: {code: "UNAUTHORIZED"},
	maru.Denied:          {code: "DENIED"},
	maru.Unsupported:     {code: "UNSUPPORTED"},
	maru.Invalid:         {code: "UNSUPPORTED", status: http.StatusBadRequest},
	maru.Interrupted:     {code: "BLOB_UPLOAD_INVALID"},
	maru.Conflict:        {code: "BLOB_UPLOAD_INVALID", status: http.StatusRequestedRangeNotSatisfiable},
	maru.Exhausted:       {code: "DENIED", status: http.StatusInsufficientStorage},
	maru.Unavailable:     {code: "UNAVAILABLE", status: http.StatusServiceUnavailable},
}

// fail answers with an error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var c *coded
	if !errors.As(err, &c) {
		byKind, ok := kinds[maru.KindOf(err)]
		if !ok {
			h.log.ErrorContext(r.Context(), "a request to the registry failed", "method", r.Method, "path", r.URL.Path, "error", err)
			byKind, err = coded{code: "UNKNOWN", status: http.StatusInternalServerError}, errors.New("internal error: the server's log has more")
		}
		c = &byKind
	}
	status := c.status
	if status == 0 {
		status = statuses[c.code]
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Maru"`)
	}
	text := err.Error()
	if hint := maru.HintOf(err); hint != "" {
		text += ": " + hint
	}
	answer(w, status, "application/json", struct {
		Errors []failure `json:"errors"`
	}{[]failure{{c.code, text}}})
}

type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, status int, mediaType string, value any) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // a client that is gone needs no answer
}
