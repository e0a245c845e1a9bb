package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/marucloud/maru"
)

// handshake sends the request that makes the connection a stream. The reader has what comes after the answer.
func handshake(conn net.Conn, name string, body []byte) (io.Reader, *failure, error) {
	request, err := http.NewRequest(http.MethodPost, "http://engine/v1/"+name, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "maru")
	if err := request.Write(conn); err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return reader, nil, nil
	}
	defer response.Body.Close()
	f := &failure{}
	if err := json.NewDecoder(response.Body).Decode(f); err != nil {
		return nil, nil, err
	}
	return nil, f, nil
}

// Exec implements [maru.Execer].
func (c *Client) Exec(ctx context.Context, instance string, cmd maru.ExecCommand, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	conn, reader, err := c.beginExec(ctx, execRequest{instance, cmd, stdin != nil, cmd.Size != nil})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { hangUp(conn, cmd.Alone) })
	defer stop()
	out := &frames{w: conn}
	sender := newStdinSender(out)
	if stdin != nil {
		go sender.run(ctx, stdin) // it may wait for what nobody types: it is left alone when the command ends
	}
	if cmd.Size != nil {
		go sendSizes(ctx, out, cmd.Size)
	}
	if cmd.Signals != nil {
		go sendSignals(ctx, out, cmd.Signals)
	}
	for {
		kind, payload, err := readFrame(reader)
		if err != nil {
			return 0, c.away(ctx, "exec", unexpected(err))
		}
		switch kind {
		case frameStdout:
			err = pass(ctx, stdout, payload)
		case frameStderr:
			err = pass(ctx, stderr, payload)
		case frameCredit:
			sender.allow(payload)
		case frameExit:
			var e exit
			if err := json.Unmarshal(payload, &e); err != nil {
				return 0, maru.Errorf(maru.Internal, "engine: exec: %w", err)
			}
			return e.Code, e.Error.err()
		}
		if err != nil {
			return 0, maru.Errorf(maru.Interrupted, "engine: exec: write output: %w", err)
		}
	}
}

// beginExec begins the connection. Who has the instance alone does not turn away half-way: what may have started is to
// be ended.
func (c *Client) beginExec(ctx context.Context, in execRequest) (net.Conn, io.Reader, error) {
	if !in.Command.Alone || ctx.Err() != nil {
		return c.upgrade(ctx, "exec", in)
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), endWithin, maru.Errorf(maru.Unavailable, "the engine does not answer"))
	defer cancel()
	return c.upgrade(ctx, "exec", in)
}

// endWithin is how long the engine may take to end all that runs in an instance.
const endWithin = 30 * time.Second

// hangUp tells the engine that the caller went away. Who has the instance alone waits until what ran there is gone,
// which would else meet the next command's processes.
func hangUp(conn net.Conn, alone bool) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !alone || !ok {
		_ = conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(endWithin)) // a connection that is closed has nothing to wait for
	_ = half.CloseWrite()
}

// pass gives output to a caller that is still there.
func pass(ctx context.Context, to io.Writer, output []byte) error {
	if ctx.Err() != nil {
		return nil
	}
	_, err := to.Write(output)
	return err
}

func sendSizes(ctx context.Context, out *frames, sizes <-chan maru.TermSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			payload, err := json.Marshal(size)
			if err != nil || out.write(frameSize, payload) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func sendSignals(ctx context.Context, out *frames, signals <-chan string) {
	for {
		select {
		case name, ok := <-signals:
			if !ok || out.write(frameSignal, []byte(name)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Forward implements [maru.Forwarder].
func (c *Client) Forward(ctx context.Context, instance string, port uint16) (net.Conn, error) {
	conn, reader, err := c.upgrade(ctx, "forward", forwardRequest{instance, port})
	if err != nil {
		return nil, err
	}
	return &forwarded{conn.(*net.UnixConn), reader}, nil
}

// forwarded is a connection of which some was read with the answer.
type forwarded struct {
	*net.UnixConn
	reader io.Reader
}

func (f *forwarded) Read(p []byte) (int, error) { return f.reader.Read(p) }

// WriteTo hides the embedded one, which would leave out what was read already.
func (f *forwarded) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f.reader})
}
