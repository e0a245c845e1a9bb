package forward

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/marucloud/maru/traffic/limit"
	"github.com/marucloud/maru/traffic/message"
)

// enter counts the request in at a service that is limited, or gives the error with which it is refused.
func (x *exchange) enter(l *limit.Limiter) error {
	p := x.priority()
	if !l.Enter(x.entry.Time.UnixNano(), p) {
		if !l.Queues() || !l.Await(x.context(), p) {
			if cause := x.ended(); cause != nil {
				return cause
			}
			return &overload{bound: l.Bound()}
		}
		x.waited = true
	}
	x.limiter, x.entered = l, x.entry.Time
	if x.waited {
		x.entered = x.e.now()
	}
	return nil
}

// leave counts the request out, when its answer has ended or it has become a stream.
func (x *exchange) leave() {
	l := x.limiter
	if l == nil {
		return
	}
	x.limiter = nil
	good := x.entry.Error == "" && x.entry.Status > 0 && !failure(x.entry.Status) && !failureGRPC(x.status)
	l.Leave(x.entered.UnixNano(), x.e.now().UnixNano(), good)
}

// overload says that a service has as many requests as it may have.
type overload struct{ bound int }

func (o *overload) Error() string {
	return "as many requests as the service may have: " + strconv.Itoa(o.bound)
}

func overloaded(name string, o *overload) Failure {
	return Failure{
		Status: http.StatusServiceUnavailable, Title: "Too many requests", Reason: o.Error(), After: 1,
		What: fmt.Sprintf("Service %s has more requests than it can do, %d at once.", name, o.bound),
		Do:   "Try again in a moment. The limit is x-maru.limits in its compose file; more instances do more: maru scale " + name,
	}
}

// priority is how important the request is: what its Priority field says (RFC 9218; urgency 3 is normal), else
// what its caller's calls are. From outside it says only that it is less important than others.
func (x *exchange) priority() limit.Priority {
	p := limit.Normal
	if c := x.call.Caller; c != nil {
		p = c.Service.State().Priority()
	}
	asked, ok := urgency(x.r.Header)
	if ok && (asked < p || x.call.Door == Mesh) {
		return asked
	}
	return p
}

// urgency reads the Priority field: u=0, the most urgent, to u=7.
func urgency(h message.Header) (limit.Priority, bool) {
	rest := h.Get("Priority")
	for rest != "" {
		var item string
		item, rest, _ = strings.Cut(rest, ",")
		v, ok := strings.CutPrefix(message.Trim(item), "u=")
		switch {
		case !ok || len(v) == 0 || v[0] < '0' || v[0] > '7':
		case v[0] < '3':
			return limit.High, true
		case v[0] == '3':
			return limit.Normal, true
		default:
			return limit.Low, true
		}
	}
	return 0, false
}

// watchStream has the request counted out once it is a stream, which may stay for as long as it likes.
func (x *exchange) watchStream() {
	if x.stream && !x.grpc || x.upgrade != "" {
		x.leave()
	}
}
