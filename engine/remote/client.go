package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"

	"github.com/marucloud/maru"
)

// Client is an engine in another process. It implements all that a [Service] holds. When the process
// is away, calls fail as Unavailable and Watch ends with it; connecting again is the caller's business.
// It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

var (
	_ maru.Engine    = (*Client)(nil)
	_ maru.Drainer   = (*Client)(nil)
	_ maru.Logs      = (*Client)(nil)
	_ maru.Execer    = (*Client)(nil)
	_ maru.Forwarder = (*Client)(nil)
	_ maru.Meter     = (*Client)(nil)
	_ maru.Volumes   = (*Client)(nil)
	_ maru.Images    = (*Client)(nil)

	_ maru.ImageSaver = (*Client)(nil)
	_ maru.DataPlane  = (*Client)(nil)

	_ maru.Constrained = (*Client)(nil)

	_ maru.Repositories = (*Client)(nil)
	_ maru.Uploads      = (*Client)(nil)
)

// Dial gives a client of the engine at a unix socket. It connects at the first call.
func Dial(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConnsPerHost: 16,
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
}

// post sends a request and gives the response when it is a success. The caller closes its body.
func (c *Client) post(ctx context.Context, name string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v1/"+name, body)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "engine: %s: %w", name, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.away(ctx, name, err)
	}
	if response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	defer response.Body.Close()
	var f failure
	if err := json.NewDecoder(response.Body).Decode(&f); err != nil {
		return nil, maru.Errorf(maru.Unsupported, "engine: %s: status %s: the processes' versions are too far apart", name, response.Status)
	}
	return nil, f.err()
}

func (c *Client) away(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return maru.Errorf(maru.Interrupted, "engine: %s: %w", name, context.Cause(ctx))
	}
	return maru.WithHint(maru.Errorf(maru.Unavailable, "engine: %s: %w", name, err), "the runtime is away; 'maru status --platform' shows why")
}

func (c *Client) postJSON(ctx context.Context, name string, in any) (*http.Response, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, maru.Errorf(maru.Internal, "engine: %s: %w", name, err)
	}
	return c.post(ctx, name, bytes.NewReader(data))
}

func ask[Out any](ctx context.Context, c *Client, name string, in any) (out Out, err error) {
	response, err := c.postJSON(ctx, name, in)
	if err != nil {
		return out, err
	}
	defer response.Body.Close()
	return read[Out](ctx, c, name, response.Body)
}

func read[Out any](ctx context.Context, c *Client, name string, body io.Reader) (out Out, err error) {
	if err := json.NewDecoder(body).Decode(&out); err != nil {
		return out, c.away(ctx, name, err)
	}
	return out, nil
}

func tell(ctx context.Context, c *Client, name string, in any) error {
	_, err := ask[nothing](ctx, c, name, in)
	return err
}

func follow[T any](ctx context.Context, c *Client, name string, in any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		response, err := c.postJSON(ctx, name, in)
		if err != nil {
			yield(zero, err)
			return
		}
		defer response.Body.Close()
		for decoder := json.NewDecoder(response.Body); ; {
			var l line[T]
			if err := decoder.Decode(&l); err != nil {
				yield(zero, c.away(ctx, name, unexpected(err)))
				return
			}
			if l.Value != nil && !yield(*l.Value, nil) {
				return
			}
			if l.Error != nil {
				yield(zero, l.Error.err())
				return
			}
			if l.End {
				return
			}
		}
	}
}

// unexpected makes an end without the last line an error that says so.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Apply implements [maru.Engine].
func (c *Client) Apply(ctx context.Context, w maru.Workload) error { return tell(ctx, c, "apply", w) }

// Remove implements [maru.Engine].
func (c *Client) Remove(ctx context.Context, id maru.WorkloadID) error {
	return tell(ctx, c, "remove", removeRequest{id})
}

// Watch implements [maru.Engine].
func (c *Client) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return follow[maru.Observation](ctx, c, "watch", nothing{})
}

// Drained implements [maru.Drainer].
func (c *Client) Drained(ctx context.Context, instance string) error {
	return tell(ctx, c, "drained", drainedRequest{instance})
}

// Logs implements [maru.Logs].
func (c *Client) Logs(ctx context.Context, q maru.LogQuery) iter.Seq2[maru.LogEntry, error] {
	return follow[maru.LogEntry](ctx, c, "logs", q)
}

// Constraints implements [maru.Constrained].
func (c *Client) Constraints(ctx context.Context) ([]string, error) {
	return ask[[]string](ctx, c, "constraints", nothing{})
}

// Usage implements [maru.Meter].
func (c *Client) Usage(ctx context.Context) ([]maru.Usage, error) {
	return ask[[]maru.Usage](ctx, c, "usage", nothing{})
}

// Update implements [maru.DataPlane].
func (c *Client) Update(update maru.TrafficUpdate) error {
	return tell(context.Background(), c, "traffic", update)
}

// Volumes implements [maru.Volumes].
func (c *Client) Volumes(ctx context.Context) ([]maru.VolumeStatus, error) {
	return ask[[]maru.VolumeStatus](ctx, c, "volumes", nothing{})
}

// RemoveVolume implements [maru.Volumes].
func (c *Client) RemoveVolume(ctx context.Context, id maru.VolumeID) error {
	return tell(ctx, c, "volumes/remove", volumeRequest{id})
}

// ExportVolume implements [maru.Volumes].
func (c *Client) ExportVolume(ctx context.Context, id maru.VolumeID, w io.Writer) error {
	return c.archive(ctx, "volumes/export", volumeRequest{id}, w)
}

// SaveImages implements [maru.ImageSaver].
func (c *Client) SaveImages(ctx context.Context, refs []string, w io.Writer) error {
	return c.archive(ctx, "images/save", saveRequest{refs}, w)
}

// archive copies a tar stream, and tells how it ended.
func (c *Client) archive(ctx context.Context, name string, in any, w io.Writer) error {
	response, err := c.postJSON(ctx, name, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return c.away(ctx, name, err)
	}
	var f *failure
	if err := json.Unmarshal([]byte(response.Trailer.Get(trailerError)), &f); err != nil {
		return c.away(ctx, name, io.ErrUnexpectedEOF)
	}
	return f.err()
}

// ImportVolume implements [maru.Volumes].
func (c *Client) ImportVolume(ctx context.Context, id maru.VolumeID, r io.Reader) error {
	response, err := c.post(ctx, "volumes/import?volume="+url.QueryEscape(id.String()), r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = read[nothing](ctx, c, "volumes/import", response.Body)
	return err
}

// Images implements [maru.Images].
func (c *Client) Images(ctx context.Context) ([]maru.Image, error) {
	return ask[[]maru.Image](ctx, c, "images", nothing{})
}

// Image implements [maru.Images].
func (c *Client) Image(ctx context.Context, ref string) (maru.Image, error) {
	return ask[maru.Image](ctx, c, "images/find", imageRequest{ref})
}

// Pull implements [maru.Images].
func (c *Client) Pull(ctx context.Context, ref string, opts maru.PullOptions, progress func(maru.PullProgress)) (maru.Image, error) {
	for step, err := range follow[pullStep](ctx, c, "images/pull", pullRequest{ref, opts}) {
		if err != nil {
			return maru.Image{}, err
		}
		if step.Image != nil {
			return *step.Image, nil
		}
		if progress != nil && step.Progress != nil {
			progress(*step.Progress)
		}
	}
	return maru.Image{}, c.away(ctx, "images/pull", io.ErrUnexpectedEOF)
}

// Load implements [maru.Images].
func (c *Client) Load(ctx context.Context, archive io.Reader) ([]maru.Image, error) {
	response, err := c.post(ctx, "images/load", archive)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return read[[]maru.Image](ctx, c, "images/load", response.Body)
}

// Prune implements [maru.Images].
func (c *Client) Prune(ctx context.Context, keep []string) ([]maru.Image, error) {
	return ask[[]maru.Image](ctx, c, "images/prune", pruneRequest{keep})
}

// upgrade makes a connection that is not HTTP's after its first request.
func (c *Client) upgrade(ctx context.Context, name string, in any) (net.Conn, io.Reader, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, nil, maru.Errorf(maru.Internal, "engine: %s: %w", name, err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, c.away(ctx, name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	reader, f, err := handshake(conn, name, data)
	if err == nil && f == nil && stop() {
		return conn, reader, nil
	}
	_ = conn.Close()
	if f != nil {
		return nil, nil, f.err()
	}
	return nil, nil, c.away(ctx, name, fmt.Errorf("begin a stream: %w", errors.Join(err, ctx.Err())))
}
