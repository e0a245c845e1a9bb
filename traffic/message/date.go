package message

import (
	"net/http"
	"sync/atomic"
	"time"
)

// today is the Date of this second.
type today struct {
	second int64
	text   string
}

var date atomic.Pointer[today]

// Date gives the Date field's value for a moment (RFC 9110, 6.6.1).
func Date(now time.Time) string {
	second := now.Unix()
	if d := date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &today{second, now.UTC().Format(http.TimeFormat)}
	date.Store(d)
	return d.text
}
