package forward

import (
	"context"
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// respond passes an endpoint's answer on. Once it began, what goes wrong can only be told by cutting
// the connection; before that the error is given.
func (x *exchange) respond(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.switchProtocols(res)
	}
	defer res.Body.Close()
	h := x.w.Header()
	copyAnswer(h, res.Header)
	if x.e.ending.Load() {
		h["Connection"] = []string{"close"}
	}
	announced := len(res.Trailer)
	if announced > 0 && x.r.Method != http.MethodHead {
		if x.r.ProtoMajor == 1 {
			delete(h, "Content-Length") // or there is no room for them behind the body
		}
		names := make([]string, 0, announced)
		for k := range res.Trailer {
			names = append(names, k)
		}
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	x.entry.Status = res.StatusCode
	stream := x.grpc || strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	if stream && x.clock != nil {
		x.clock.stop()
	}
	x.w.WriteHeader(res.StatusCode)
	if err := x.copyBody(res, stream); err != nil {
		x.entry.Error = err.Error()
		panic(http.ErrAbortHandler)
	}
	x.trailers(res, announced)
	return nil
}

// copyAnswer takes an answer's header over, but for what belongs to the connection, and for
// "Connection", by which the server says that it drains.
func copyAnswer(to, from http.Header) {
	named := connectionTokens(from)
	for k, v := range from {
		if !hopByHop[k] && !named[k] {
			to[k] = v
		}
	}
}

func (x *exchange) copyBody(res *http.Response, stream bool) error {
	flush := res.ContentLength < 0
	rc := http.NewResponseController(x.w)
	if flush {
		// A stream may say nothing for a while, but its reader wants to know that it began.
		if err := rc.Flush(); err != nil {
			return errClientGone
		}
	}
	var buf []byte
	if stream {
		buf = make([]byte, streamBuffer)
	} else {
		pooled := buffers.Get().(*[copyBuffer]byte) //nolint:forcetypeassert // its New gives nothing else
		defer buffers.Put(pooled)
		buf = pooled[:]
	}
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			if x.clock != nil {
				x.clock.restart()
			}
			if _, werr := x.w.Write(buf[:n]); werr != nil {
				return errClientGone
			}
			x.entry.Out += int64(n)
			if flush {
				if werr := rc.Flush(); werr != nil {
					return errClientGone
				}
			}
		}
		switch {
		case err == io.EOF: //nolint:errorlint // as io.Reader says
			return nil
		case err != nil && x.ctx.Err() != nil:
			return context.Cause(x.ctx)
		case err != nil:
			return err
		}
	}
}

// trailers passes on what came behind the body, announced or not.
func (x *exchange) trailers(res *http.Response, announced int) {
	if len(res.Trailer) == 0 {
		return
	}
	h := x.w.Header()
	// Without this a short body would be sent with a length, and that leaves no room for trailers.
	_ = http.NewResponseController(x.w).Flush()
	for k, v := range res.Trailer {
		if !httpguts.ValidTrailerHeader(k) {
			continue
		}
		if len(res.Trailer) != announced {
			k = http.TrailerPrefix + k
		}
		h[k] = v
	}
}
