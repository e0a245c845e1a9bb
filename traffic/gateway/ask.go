package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru/traffic/forward"
	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/policy"
	"github.com/marucloud/maru/traffic/table"
)

// asker asks services in the course of a request, before it is carried.
type asker struct {
	g      *Gateway
	client message.Client // whose request it is
	call   forward.Call   // that the request is to become
}

// ask is a [policy.Env]'s. It goes the way of any request, so that it is balanced, tried again and recorded
// like one.
func (a asker) ask(service string, port uint16, r *message.Request, timeout time.Duration) *policy.Reply {
	id := a.call.Service.ID.Scope.Service(service)
	call := forward.Call{Door: forward.Gateway, Port: port, Peer: a.call.Peer, Timeout: timeout}
	to := &collector{client: a.client}
	var known bool
	if call.Service, known = a.g.table.Service(id); known && call.Port == 0 {
		call.Port = call.Service.State().HTTPPort()
	}
	var err error
	switch {
	case !known || call.Port == 0:
		call.Service = nil
		err = a.g.engine.Refuse(to, r, call, forward.NoPort(service))
	case !table.Allowed(nil, call.Service):
		err = a.g.engine.Refuse(to, r, call, forward.NotAllowed(service, table.Gateway))
	default:
		err = a.g.engine.Serve(to, r, call)
	}
	if err != nil || !to.done {
		return &policy.Reply{Status: 502}
	}
	return &to.reply
}

// collector is a client that keeps the answer.
type collector struct {
	client message.Client
	reply  policy.Reply
	done   bool
}

var (
	errReplyTooLarge = errors.New("the answer is too large to be kept")
	errNoSwitch      = errors.New("no other protocol is spoken here")
)

func (c *collector) Context() context.Context { return c.client.Context() }

func (c *collector) Interim(int, message.Header) error { return nil }

func (c *collector) Begin(r *message.Response) error {
	c.reply.Status = r.Status
	for _, f := range r.Header {
		c.reply.Header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
	}
	return nil
}

func (c *collector) Write(p []byte) error {
	if len(c.reply.Body)+len(p) > policy.MostReply {
		return errReplyTooLarge
	}
	c.reply.Body = slices.Concat(c.reply.Body, p)
	return nil
}

func (c *collector) Flush() error { return nil }

func (c *collector) End(message.Header) error {
	c.done = true
	return nil
}

func (c *collector) Switch(message.Header) (net.Conn, io.Reader, error) { return nil, nil, errNoSwitch }
