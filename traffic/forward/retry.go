package forward

import (
	"errors"
	"net/http"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
)

// mostConnects bounds how many endpoints one request tries to connect to before it waits or gives up.
const mostConnects = 5

// retries are what a request has left.
type retries struct {
	connects int // to endpoints that can't be connected to
	resends  int // after an endpoint died
}

func (x *exchange) retries() retries {
	switch attempts := x.call.Service.State().Retry.Attempts; {
	case attempts < 0:
		return retries{}
	case attempts == 0:
		return retries{connects: mostConnects, resends: 1}
	default:
		return retries{connects: max(mostConnects, attempts), resends: attempts}
	}
}

// mayRetry tells whether the request may be sent again after err, and takes the retry.
func (x *exchange) mayRetry(err error, left *retries) bool {
	var malformed *http1.Error
	if errors.As(err, &malformed) || x.body != nil && !x.body.rewind() {
		return false
	}
	var refused *connect.Error
	if errors.As(err, &refused) {
		left.connects--
		return left.connects >= 0
	}
	if !idempotent(x.r.Method) || x.upgrade != "" {
		return false
	}
	left.resends--
	return left.resends >= 0 && x.call.Service.Retries.Spend(x.e.now())
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return true
	}
	return false
}
