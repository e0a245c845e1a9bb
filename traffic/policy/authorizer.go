package policy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// authorizer asks somebody else whether a request is let in, as nginx's auth_request does.
type authorizer struct {
	maru.ForwardAuth
	client *http.Client // for one at a URL
}

const (
	authorizerTime  = 5 * time.Second
	authorizerAgain = 2 * time.Second // when clients are told to try again after a failure
)

func newAuthorizer(f *maru.ForwardAuth) (step, error) {
	if f == nil || (f.Service == "") == (f.URL == "") {
		return nil, maru.Errorf(maru.Invalid, "it is not said who is asked")
	}
	s := &authorizer{ForwardAuth: *f}
	if s.Path == "" {
		s.Path = "/"
	}
	if s.Timeout == 0 {
		s.Timeout = authorizerTime
	}
	if s.User != "" {
		s.Take = append([]string{s.User}, s.Take...)
	}
	if s.URL != "" {
		s.client = &http.Client{
			// Where the client is sent to is the client's business.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true},
		}
	}
	return s, nil
}

func (s *authorizer) take(x *Exchange) *Answer {
	question := s.question(x)
	reply, err := s.ask(x, question)
	if err == nil && reply.Status >= 500 {
		err = errors.New("it answers " + strconv.Itoa(reply.Status))
	}
	without(x.Request, s.Take)
	switch {
	case err != nil && s.Open:
		return nil
	case err != nil:
		return &Answer{
			Status: http.StatusServiceUnavailable, Title: "Access can't be checked", Reason: "the authorizer failed: " + err.Error(), After: authorizerAgain,
			What: "Whether you are let in here can't be found out at the moment.", Do: "Try again in a moment.",
		}
	case reply.Status >= 200 && reply.Status < 300:
		s.admit(x, reply)
		return nil
	}
	return refusal(reply)
}

// admit gives the service what the answer says of the client, and the client its cookies.
func (s *authorizer) admit(x *Exchange, reply *Reply) {
	for _, name := range s.Take {
		for value := range reply.Header.Values(name) {
			x.Out.Edits = append(x.Out.Edits, message.Edit{Op: message.Add, Name: name, Value: value})
		}
	}
	if s.User != "" {
		if user := reply.Header.Get(s.User); user != "" {
			x.User, x.Token = user, user
			x.Out.Edits = append(x.Out.Edits, message.Edit{Op: message.Set, Name: UserHeader, Value: user})
		}
	}
	if reply.Header.Has("Set-Cookie") {
		x.onBegin(func(r *message.Response) {
			for value := range reply.Header.Values("Set-Cookie") {
				r.Header.Add("Set-Cookie", value)
			}
		})
	}
}

// refusal passes an answer on to the client.
func refusal(reply *Reply) *Answer {
	a := &Answer{
		Status: reply.Status, Title: "Not allowed", Reason: "the authorizer answers " + strconv.Itoa(reply.Status),
		What: "You are not let in here.", Do: "Send what you were given to come in with.", Body: reply.Body,
	}
	if a.Body == nil {
		a.Body = []byte{}
	}
	for _, f := range reply.Header {
		if !message.HopByHop(f.Name) && !message.Equal(f.Name, "Content-Length") && !message.Equal(f.Name, "X-Request-Id") {
			a.Header = append(a.Header, f)
		}
	}
	return a
}

// question is the request without its body and what says something of that, or of who asked whom: the latter is told anew.
func (s *authorizer) question(x *Exchange) *message.Request {
	r := x.Request
	q := *r
	q.Method, q.Target, q.Body, q.Length, q.Expects, q.Upgrade = http.MethodGet, s.Path, nil, 0, false, ""
	q.Path, _, _ = strings.Cut(s.Path, "?")
	q.Header = nil
	for _, f := range r.Header {
		if asked(f.Name) && s.sends(f.Name) {
			q.Header = append(q.Header, f)
		}
	}
	scheme := x.scheme()
	q.Header = append(q.Header,
		message.Field{Name: "X-Forwarded-Method", Value: r.Method},
		message.Field{Name: "X-Forwarded-Uri", Value: r.Target},
		message.Field{Name: "X-Original-Method", Value: r.Method},
		message.Field{Name: "X-Original-Url", Value: scheme + "://" + r.Host + r.Target},
	)
	return &q
}

// asked tells whether a field is the client's own word, of which the authorizer may make something.
func asked(name string) bool {
	name = strings.ReplaceAll(name, "_", "-")
	for _, prefix := range []string{"Content-", "X-Maru-", "X-Original-"} {
		if len(name) > len(prefix) && message.Equal(name[:len(prefix)], prefix) {
			return false
		}
	}
	for _, other := range []string{"Expect", "Upgrade", "X-Forwarded-Method", "X-Forwarded-Uri", "Accept-Encoding"} {
		if message.Equal(name, other) {
			return false
		}
	}
	return !message.HopByHop(name)
}

// sends tells whether the authorizer is to get the field. What trusted proxies say is told in any case.
func (s *authorizer) sends(name string) bool {
	if len(s.Send) == 0 {
		return true
	}
	for _, wanted := range s.Send {
		if message.Equal(name, wanted) {
			return true
		}
	}
	const forwarded = "X-Forwarded-"
	return len(name) > len(forwarded) && message.Equal(name[:len(forwarded)], forwarded)
}

func (s *authorizer) ask(x *Exchange, q *message.Request) (*Reply, error) {
	if s.URL != "" {
		return s.askURL(x, q)
	}
	if x.env.Ask == nil {
		return nil, errors.New("services can't be asked here")
	}
	return x.env.Ask(s.Service, s.Port, q, s.Timeout), nil
}

func (s *authorizer) askURL(x *Exchange, q *message.Request) (*Reply, error) {
	ctx, cancel := context.WithTimeoutCause(x.Client.Context(), s.Timeout, errors.New("no answer within "+s.Timeout.String()))
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	out.Header["User-Agent"] = nil
	for _, f := range q.Header {
		if !forwarded(f.Name) {
			out.Header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
		}
	}
	out.Header.Set("X-Forwarded-For", x.Source.String())
	out.Header.Set("X-Forwarded-Host", strings.Clone(q.Host))
	out.Header.Set("X-Forwarded-Proto", x.scheme())
	res, err := s.client.Do(out)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, MostReply))
	if err != nil {
		return nil, err
	}
	reply := &Reply{Status: res.StatusCode, Body: body}
	for name, values := range res.Header {
		for _, v := range values {
			reply.Header.Add(name, v)
		}
	}
	return reply, nil
}

// forwarded tells whether a field says who asked whom.
func forwarded(name string) bool {
	for _, other := range []string{"Forwarded", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix"} {
		if message.Equal(name, other) {
			return true
		}
	}
	return false
}

// scheme gives the one by which the client came.
func (x *Exchange) scheme() string {
	if x.env.Scheme != "" {
		return x.env.Scheme
	}
	return x.Request.Scheme
}

// without takes fields out of a request, also those that some programs take for the same ones.
func without(r *message.Request, names []string) {
	if len(names) == 0 {
		return
	}
	kept := make(message.Header, 0, len(r.Header))
	for _, f := range r.Header {
		if !named(f.Name, names) {
			kept = append(kept, f)
		}
	}
	r.Header = kept
}

func named(name string, names []string) bool {
	name = strings.ReplaceAll(name, "_", "-")
	for _, other := range names {
		if message.Equal(name, strings.ReplaceAll(other, "_", "-")) {
			return true
		}
	}
	return false
}
