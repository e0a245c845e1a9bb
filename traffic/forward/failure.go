package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/marucloud/maru/traffic/connect"
	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/table"
)

// Failure is an answer that Maru gives in a service's stead.
type Failure struct {
	Status int
	Title  string
	What   string         // what happened, for whoever sees the page
	Do     string         // what to do about it
	Reason string         // for the access log only
	After  int            // seconds until it is worth trying again; 0: says nothing of it
	Header message.Header // besides the usual; may be nil
	Bare   bool           // without a body, and without what is said of one
	Body   []byte         // in place of a page; Header says what it is
}

// NoRoute is the answer to a host and path that lead nowhere. It tells nothing of what there is.
func NoRoute(host string) Failure {
	return Failure{
		Status: http.StatusNotFound, Title: "Nothing here", Reason: "no route",
		What: fmt.Sprintf("No service has a route for %s.", host),
		Do:   "Check the address. If the service is yours, look at the route in its compose file (x-maru.route), and run: maru status",
	}
}

// NotAllowed is the answer to a caller whom the service's policy does not name.
func NotAllowed(service, caller string) Failure {
	return Failure{
		Status: http.StatusForbidden, Title: "Not allowed", Reason: caller + " may not call " + service,
		What: fmt.Sprintf("%s does not accept calls from %s.", service, caller),
		Do:   fmt.Sprintf("To permit them, let both share a network, or name %s under x-maru.allow of %s.", caller, service),
	}
}

// notPermitted is the answer to a caller whom the service's policy names, but not with that request.
func notPermitted(service, caller, method, path string) Failure {
	return Failure{
		Status: http.StatusForbidden, Title: "Not allowed",
		Reason: fmt.Sprintf("%s may not call %s with %s %s", caller, service, method, path),
		What:   fmt.Sprintf("%s does not accept %s %s from %s.", service, method, path, caller),
		Do:     fmt.Sprintf("To permit it, add the method and the path to those of %s under x-maru.allow of %s.", caller, service),
	}
}

// permitted tells whether the caller may make the call, and answers if not.
func (x *exchange) permitted() bool {
	var caller *table.Service
	name := table.Gateway
	if x.call.Caller != nil {
		caller = x.call.Caller.Service
		name = caller.ID.Service
	}
	callee := x.call.Service
	if callee.State().Permits(caller, x.r.Method, x.r.Path, x.r.Target) {
		return true
	}
	x.fail(notPermitted(callee.ID.Service, name, x.r.Method, x.r.Path))
	return false
}

// BadRequest is the answer to what is not carried.
func BadRequest(what string) Failure {
	return Failure{Status: http.StatusBadRequest, Title: "Bad request", What: what, Reason: what, Do: "Correct the request."}
}

// Moved is the answer to a request that should have come another way.
func Moved(to string) Failure {
	return Failure{
		Status: http.StatusPermanentRedirect, Title: "Moved", Reason: "redirected to HTTPS",
		Header: message.Header{{Name: "Location", Value: to}},
		What:   "This is served by HTTPS.", Do: "Go to " + to,
	}
}

// Misdirected is the answer to a request on a connection that was begun for another host, which asks its
// clients for other certificates (RFC 9110, 15.5.20).
func Misdirected(host string) Failure {
	return Failure{
		Status: http.StatusMisdirectedRequest, Title: "Misdirected request", Reason: "connection is for another host",
		What: fmt.Sprintf("This connection was not begun for %s, which has to know its clients.", host),
		Do:   "Ask again on a new connection.",
	}
}

// PassedThrough is the answer to a request for a host whose TLS its service ends.
func PassedThrough(host string) Failure {
	return Failure{
		Status: http.StatusMisdirectedRequest, Title: "Misdirected request", Reason: "TLS of the host is passed through",
		What: fmt.Sprintf("%s is served on connections with TLS that were begun for it.", host),
		Do:   "Ask again on a new connection, by HTTPS.",
	}
}

// NoClientCertificate is the answer to a client that has to show a certificate and shows none.
func NoClientCertificate(host string) Failure {
	return Failure{
		Status: http.StatusForbidden, Title: "Certificate needed", Reason: "no client certificate",
		What: fmt.Sprintf("%s has to know its clients: a certificate by an authority that it trusts is needed.", host),
		Do:   "Come by HTTPS with such a certificate. The authorities are x-maru.route.tls.client_ca in the service's compose file.",
	}
}

// failure turns the error that ended an exchange into its answer.
func (x *exchange) failure(err error) Failure {
	name := x.call.Service.ID.Service
	look := "Run: maru status " + name
	logs := look + ", and: maru logs " + name
	var refused *connect.Error
	var malformed *http1.Error
	var full *overload
	switch {
	case errors.As(err, &full):
		return overloaded(name, full)
	case errors.Is(err, errTimeout):
		return Failure{
			Status: http.StatusGatewayTimeout, Title: "No answer in time", Reason: err.Error(),
			What: fmt.Sprintf("Service %s did not answer within %s.", name, x.timeout),
			Do:   logs + ". The limit is timeout under x-maru, or of the route, in its compose file, or what its caller had left.",
		}
	case errors.As(err, &malformed) && malformed.Status == http.StatusRequestEntityTooLarge:
		return Failure{Status: malformed.Status, Title: "Request too large", What: malformed.What, Do: "Send less.", Reason: "the body is too large"}
	case errors.As(err, &malformed):
		return BadRequest(malformed.What)
	case errors.Is(err, context.Canceled):
		return Failure{Status: statusClientGone, Reason: errClientGone.Error()}
	case errors.Is(err, connect.ErrNoEndpoint):
		return x.unready(name, look)
	case errors.As(err, &refused):
		return Failure{
			Status: http.StatusBadGateway, Title: "Service can't be reached", Reason: err.Error(), After: 1,
			What: fmt.Sprintf("Service %s does not accept connections on port %d: %s.", name, x.call.Port, connect.Reason(refused)),
			Do:   "It must listen on that port at every address (0.0.0.0), not only at 127.0.0.1. " + logs,
		}
	}
	return Failure{
		Status: http.StatusBadGateway, Title: "Service failed", Reason: err.Error(),
		What: fmt.Sprintf("Service %s ended the connection before it answered.", name),
		Do:   logs,
	}
}

func (x *exchange) unready(name, look string) Failure {
	f := Failure{
		Status: http.StatusServiceUnavailable, Title: "Service unavailable", Reason: connect.ErrNoEndpoint.Error(), After: 2,
		What: fmt.Sprintf("Service %s has no instance that is ready.", name),
		Do:   look,
	}
	state := x.call.Service.State()
	switch {
	case state.Empty != "":
		f.What += " " + state.Empty
	case state.Starting():
		f.Title = "Service is starting"
		f.What = fmt.Sprintf("Service %s is starting: none of its instances is ready yet.", name)
	}
	return f
}

// fail answers with the failure, in the form that the client understands.
func (x *exchange) fail(f Failure) {
	x.entry.Status, x.entry.Error = f.Status, f.Reason
	if f.Status == statusClientGone {
		x.cut = true
		return
	}
	a := &x.answer
	a.Status, a.Header = f.Status, a.Header[:0]
	a.Header.Add("X-Request-Id", x.entry.ID)
	a.Header = append(a.Header, f.Header...)
	x.promise()
	var body []byte
	switch {
	case f.Bare:
	case x.grpc:
		x.failGRPC(f)
	case f.Body != nil:
		body = f.Body
	default:
		body = x.failHTTP(f)
	}
	a.Length = int64(len(body))
	if x.tell(a, body) != nil {
		x.cut = true
	}
}

// failHTTP puts the failure into the answer's header, and gives its body.
func (x *exchange) failHTTP(f Failure) []byte {
	h := &x.answer.Header
	h.Add("Cache-Control", "no-store")
	if f.After > 0 {
		h.Add("Retry-After", strconv.Itoa(f.After))
	}
	kind, body := f.page(x.r.Header, x.entry.ID)
	h.Add("Content-Type", kind)
	h.Add("X-Content-Type-Options", "nosniff")
	return body
}

func (x *exchange) tell(a *message.Response, body []byte) error {
	if err := x.c.Begin(a); err != nil {
		return err
	}
	if x.r.Method != http.MethodHead {
		if err := x.c.Write(body); err != nil {
			return err
		}
		x.entry.Out = int64(len(body))
	}
	return x.c.End(nil)
}

// NoPort is the answer when nobody said on which port a service listens.
func NoPort(service string) Failure {
	return Failure{
		Status: http.StatusBadGateway, Title: "Service has no port", Reason: "no port known",
		What: fmt.Sprintf("Nothing says on which port service %s listens.", service),
		Do:   fmt.Sprintf("Name it in the compose file: x-maru.route: {host: …, port: …} of %s, or expose.", service),
	}
}
