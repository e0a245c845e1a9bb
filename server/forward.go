package server

import (
	"context"
	"errors"
	"io"
	"net"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// Forward carries one connection to a port of an instance.
func (s execService) Forward(ctx context.Context, stream *connect.BidiStream[maruv1.ForwardRequest, maruv1.ForwardResponse]) error {
	if s.deps.Forwarder == nil {
		return unsupported("way into instances")
	}
	first, err := stream.Receive()
	if err != nil {
		return lostStream(err)
	}
	start := first.GetStart()
	if start == nil || start.Port == 0 || start.Port > 65535 {
		return maru.Errorf(maru.Invalid, "the stream does not begin with a port")
	}
	instance, err := s.pick(ctx, fromScope(start.Scope), start.Service, start.Instance)
	if err != nil {
		return err
	}
	conn, err := s.deps.Forwarder.Forward(ctx, instance, uint16(start.Port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := stream.Send(&maruv1.ForwardResponse{Message: &maruv1.ForwardResponse_Started{Started: &maruv1.ForwardStarted{Instance: instance}}}); err != nil {
		return err
	}
	// What the caller sends is read until the handler returns, which ends the stream.
	go func() {
		if err := forwardOut(stream.Receive, conn); err != nil {
			_ = conn.Close()
		}
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			if err := stream.Send(&maruv1.ForwardResponse{Message: &maruv1.ForwardResponse_Data{Data: buffer[:n]}}); err != nil {
				return err
			}
		}
		if err != nil {
			return forwardEnd(ctx, stream, err)
		}
	}
}

// forwardOut writes to the instance what the caller sends, until it sends no more.
func forwardOut(receive func() (*maruv1.ForwardRequest, error), conn net.Conn) error {
	for {
		m, err := receive()
		if errors.Is(err, io.EOF) {
			return closeWrite(conn)
		}
		if err != nil {
			return err
		}
		switch m := m.Message.(type) {
		case *maruv1.ForwardRequest_Data:
			if _, err := conn.Write(m.Data); err != nil {
				return err
			}
		case *maruv1.ForwardRequest_Closed:
			if err := closeWrite(conn); err != nil {
				return err
			}
		}
	}
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func forwardEnd(ctx context.Context, stream *connect.BidiStream[maruv1.ForwardRequest, maruv1.ForwardResponse], err error) error {
	if errors.Is(err, io.EOF) {
		return stream.Send(&maruv1.ForwardResponse{Message: &maruv1.ForwardResponse_Closed{Closed: true}})
	}
	if ended := ended(ctx); ended != nil {
		return ended
	}
	return maru.Errorf(maru.Interrupted, "the connection ended: %w", err)
}
