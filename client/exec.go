package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// pieceSize is how much of a stream travels in one message, in bytes.
const pieceSize = 32 << 10

// ExecStreams are the ends of a command's streams. Stdin may be nil. Size gives the terminal's size
// at the beginning and after each change; nil without a terminal. Signals, such as SIGINT, are for the
// command; it may be nil.
type ExecStreams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Size           <-chan maru.TermSize
	Signals        <-chan string
}

// RunExec runs a command in an instance and gives its exit code. A program that can't be started is an
// error beside the exit code that shells give for it.
func (c *Client) RunExec(ctx context.Context, start *maruv1.ExecStart, streams ExecStreams) (int, error) {
	start.Stdin = streams.Stdin != nil
	return c.converse(ctx, &maruv1.ExecRequest{Message: &maruv1.ExecRequest_Start{Start: start}}, streams)
}

// RunOnce runs a command in a new instance likewise. The instance goes with the command, and with ctx.
func (c *Client) RunOnce(ctx context.Context, run *maruv1.RunStart, streams ExecStreams) (int, error) {
	run.Stdin = streams.Stdin != nil
	return c.converse(ctx, &maruv1.ExecRequest{Message: &maruv1.ExecRequest_Run{Run: run}}, streams)
}

func (c *Client) converse(ctx context.Context, first *maruv1.ExecRequest, streams ExecStreams) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.Exec.Exec(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.CloseResponse() }() // how the command ended is known
	var sending sync.Mutex
	send := func(m *maruv1.ExecRequest) error {
		sending.Lock()
		defer sending.Unlock()
		return conn.Send(m)
	}
	if err := send(first); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	// These end with the connection: reading the user's terminal can't be interrupted otherwise.
	if streams.Stdin != nil {
		go copyStdin(streams.Stdin, send)
	}
	go pass(ctx, streams.Size, func(size maru.TermSize) error {
		return send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Size{Size: &maruv1.TermSize{Rows: uint32(size.Rows), Cols: uint32(size.Cols)}}})
	})
	go pass(ctx, streams.Signals, func(name string) error {
		return send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Signal{Signal: name}})
	})
	for {
		message, err := conn.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return 0, maru.Errorf(maru.Unavailable, "the connection ended before the command did")
			}
			return 0, err
		}
		switch m := message.Message.(type) {
		case *maruv1.ExecResponse_Stdout:
			_, err = streams.Stdout.Write(m.Stdout)
		case *maruv1.ExecResponse_Stderr:
			_, err = streams.Stderr.Write(m.Stderr)
		case *maruv1.ExecResponse_ExitCode:
			return int(m.ExitCode), nil
		case *maruv1.ExecResponse_Failed:
			return int(m.Failed.ExitCode), maru.WithHint(maru.Errorf(maru.Invalid, "%s", m.Failed.Message), m.Failed.Hint)
		}
		if err != nil {
			return 0, err
		}
	}
}

// pass sends what comes from a channel, which may be nil, until ctx ends.
func pass[T any](ctx context.Context, from <-chan T, send func(T) error) {
	for {
		select {
		case v, more := <-from:
			if !more || send(v) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func copyStdin(from io.Reader, send func(*maruv1.ExecRequest) error) {
	for {
		piece := make([]byte, pieceSize)
		n, err := from.Read(piece)
		if n > 0 && send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Stdin{Stdin: piece[:n]}}) != nil {
			return
		}
		if err != nil {
			_ = send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_StdinClosed{StdinClosed: true}})
			return
		}
	}
}

// Forward connects conn to a port of an instance until both directions have ended. It closes conn.
func (c *Client) Forward(ctx context.Context, start *maruv1.ForwardStart, conn net.Conn) error {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far, err := c.Exec.Forward(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = far.CloseResponse() }() // how each direction ended is known
	if err := far.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Start{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var both errgroup.Group
	both.Go(func() error {
		for {
			piece := make([]byte, pieceSize)
			n, err := conn.Read(piece)
			if n > 0 {
				if err := far.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Data{Data: piece[:n]}}); err != nil {
					return nil // the receiving side tells why
				}
			}
			if err != nil {
				_ = far.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Closed{Closed: true}})
				return far.CloseRequest()
			}
		}
	})
	both.Go(func() error {
		defer closeWrite(conn)
		for {
			message, err := far.Receive()
			if errors.Is(err, io.EOF) || message.GetClosed() {
				return nil
			}
			if err != nil {
				_ = conn.Close()
				return err
			}
			if _, err := conn.Write(message.GetData()); err != nil {
				return err
			}
		}
	})
	return both.Wait()
}

func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
