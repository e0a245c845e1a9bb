package build

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/marucloud/maru"
)

// Client is the far side of a builder. It is safe for concurrent use.
type Client struct {
	http *http.Client
}

var _ Builder = (*Client)(nil)

// Dial gives a client of the builder that listens on the unix socket. It connects at each call: a
// builder that is idle ends, and the next call has it started again.
func Dial(socket string) *Client {
	var dialer net.Dialer
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true, // a kept connection could be closed by a builder that ends just then
	}}}
}

// Build has the image made by the builder.
func (c *Client) Build(ctx context.Context, req Request, progress func(Event)) (maru.Image, error) {
	if err := req.Check(); err != nil {
		return maru.Image{}, err
	}
	last, err := c.call(ctx, buildPath, req, progress)
	if err != nil {
		return maru.Image{}, err
	}
	if last.Image == nil {
		return maru.Image{}, maru.Errorf(maru.Internal, "the builder answered without an image")
	}
	return *last.Image, nil
}

// Prune drops cached results.
func (c *Client) Prune(ctx context.Context, keep int64) (int64, error) {
	last, err := c.call(ctx, prunePath, pruneRequest{Keep: keep}, nil)
	if err != nil {
		return 0, err
	}
	if last.Freed == nil {
		return 0, maru.Errorf(maru.Internal, "the builder answered without a size")
	}
	return *last.Freed, nil
}

func (c *Client) call(ctx context.Context, path string, body any, progress func(Event)) (message, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return message{}, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://builder"+path, bytes.NewReader(data))
	if err != nil {
		return message{}, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return message{}, unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return message{}, maru.Errorf(maru.Unavailable, "the builder answered %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return readMessages(ctx, resp.Body, progress)
}

func readMessages(ctx context.Context, r io.Reader, progress func(Event)) (message, error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			return message{}, unreachable(ctx, err)
		}
		switch {
		case m.Error != nil:
			return message{}, m.Error.err()
		case m.Image != nil, m.Freed != nil:
			return m, nil
		case m.Event != nil && progress != nil:
			progress(*m.Event)
		}
	}
}

// unreachable tells a caller who went away from a builder that did.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return maru.Errorf(maru.Interrupted, "the build was interrupted: %w", context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ended during the build")
	}
	return maru.WithHint(maru.Errorf(maru.Unavailable, "the builder is away: %w", err),
		"try again; if it stays away, look at the log of `maru builder`")
}
