package forward

import (
	"errors"
	"io"
	"strings"

	"github.com/marucloud/maru/traffic/message"
)

// respond passes an endpoint's answer on. Once it began, what goes wrong can only be told by cutting
// the connection; before that the error is given.
func (x *exchange) respond(res *message.Response) error {
	if res.Switched != nil {
		return x.switchProtocols(res)
	}
	if res.Body != nil {
		defer res.Body.Close()
	}
	a := &x.answer
	a.Status, a.Length = res.Status, res.Length
	a.Header = copyAnswer(a.Header[:0], res.Header)
	if x.r.Method != "HEAD" {
		for names := range res.Header.Values("Trailer") {
			if x.r.Major == 1 {
				a.Length = -1 // or there is no room for them behind the body
			}
			a.Header.Add("Trailer", names)
		}
	}
	x.promise()
	x.know()
	x.entry.Status = res.Status
	x.stream = x.grpc || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	if x.stream && x.clock != nil {
		x.clock.stop()
	}
	if x.stream && !x.grpc {
		x.judged() // its end may be far
	}
	x.watchStream()
	err := x.c.Begin(a)
	if err == nil {
		err = x.copyBody(res.Body)
	} else {
		err = errClientGone
	}
	if err != nil {
		x.entry.Error = err.Error()
		x.cut = true
	}
	return nil
}

// promise adds what the gateway tells of itself with each answer. A service's own word counts more.
func (x *exchange) promise() {
	if x.call.AltSvc != "" && !x.answer.Header.Has(altSvc) {
		x.answer.Header.Add(altSvc, x.call.AltSvc)
	}
	if x.call.HSTS != "" && !x.answer.Header.Has(hsts) {
		x.answer.Header.Add(hsts, x.call.HSTS)
	}
}

const (
	altSvc = "Alt-Svc"
	hsts   = "Strict-Transport-Security"
)

// copyAnswer takes an answer's header over, but for what belongs to the connection.
func copyAnswer(to, from message.Header) message.Header {
	var space [4]string
	tokens := connectionTokens(from, space[:0])
	for _, f := range from {
		if !message.HopByHop(f.Name) && !named(tokens, f.Name) {
			to = append(to, f)
		}
	}
	return to
}

// copyBody passes the body on piece by piece. What was passed on is not held back while the next piece
// is waited for: a stream may say nothing for a while, but its reader wants to know that it began.
func (x *exchange) copyBody(body message.Body) error {
	if body == nil {
		return gone(x.c.End(nil))
	}
	held := x.answer.Length < 0 // something that the client should see is not sent yet
	for {
		if held && !body.Ready() {
			if x.c.Flush() != nil {
				return errClientGone
			}
			held = false
		}
		piece, err := body.Next()
		if len(piece) > 0 {
			if x.clock != nil {
				x.clock.restart()
			}
			if x.corrupt {
				damage(piece)
			}
			if x.c.Write(piece) != nil {
				return errClientGone
			}
			x.entry.Out += int64(len(piece))
			held = true
		}
		switch {
		case errors.Is(err, io.EOF):
			return x.end(body.Trailer())
		case err != nil:
			if cause := x.ended(); cause != nil {
				return cause
			}
			return err
		}
	}
}

func (x *exchange) end(trailer message.Header) error {
	if x.grpc {
		x.status = trailer.Get("Grpc-Status")
	}
	return gone(x.c.End(trailer))
}

func gone(err error) error {
	if err != nil {
		return errClientGone
	}
	return nil
}
