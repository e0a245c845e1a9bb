package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"syscall"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// kinds maps the transport's codes to kinds, for errors that come without a detail: those of proxies,
// and of other servers.
var kinds = map[connect.Code]maru.Kind{
	connect.CodeCanceled:           maru.Interrupted,
	connect.CodeDeadlineExceeded:   maru.Interrupted,
	connect.CodeNotFound:           maru.NotFound,
	connect.CodeAlreadyExists:      maru.Exists,
	connect.CodeAborted:            maru.Conflict,
	connect.CodeFailedPrecondition: maru.Conflict,
	connect.CodeInvalidArgument:    maru.Invalid,
	connect.CodeOutOfRange:         maru.Invalid,
	connect.CodePermissionDenied:   maru.Denied,
	connect.CodeUnauthenticated:    maru.Unauthenticated,
	connect.CodeResourceExhausted:  maru.Exhausted,
	connect.CodeUnavailable:        maru.Unavailable,
	connect.CodeUnimplemented:      maru.Unsupported,
}

// errorInterceptor gives errors the kinds and hints that the server gave them.
type errorInterceptor struct{ where string }

func (i errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		return res, i.convert(ctx, err)
	}
}

func (i errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		return convertingConn{next(ctx, spec), ctx, i}
	}
}

func (i errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

type convertingConn struct {
	connect.StreamingClientConn
	ctx context.Context
	i   errorInterceptor
}

func (c convertingConn) Send(m any) error        { return c.convert(c.StreamingClientConn.Send(m)) }
func (c convertingConn) Receive(m any) error     { return c.convert(c.StreamingClientConn.Receive(m)) }
func (c convertingConn) CloseRequest() error     { return c.convert(c.StreamingClientConn.CloseRequest()) }
func (c convertingConn) convert(err error) error { return c.i.convert(c.ctx, err) }

func (i errorInterceptor) convert(ctx context.Context, err error) error {
	// The end of a stream is no error; connect tells it by io.EOF.
	if err == nil || errors.Is(err, io.EOF) && !isProtocolError(err) {
		return err
	}
	var e *connect.Error
	if !errors.As(err, &e) {
		return err
	}
	if connect.IsWireError(e) {
		return fromWire(e)
	}
	if ctx.Err() != nil {
		return maru.Errorf(maru.Interrupted, "interrupted: %w", context.Cause(ctx))
	}
	return i.unreachable(e)
}

func isProtocolError(err error) bool {
	var e *connect.Error
	return errors.As(err, &e) && e.Code() != connect.CodeUnknown
}

func fromWire(e *connect.Error) error {
	kind, known := kinds[e.Code()]
	if !known {
		kind = maru.Internal
	}
	hint := ""
	for _, d := range e.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		if detail, ok := v.(*maruv1.ErrorDetail); ok {
			kind, hint = maru.Kind(detail.GetKind()), detail.GetHint()
		}
	}
	return maru.WithHint(maru.Errorf(kind, "%s", e.Message()), hint)
}

// unreachable tells why the server can't be spoken to.
func (i errorInterceptor) unreachable(err *connect.Error) error {
	cause := errors.Unwrap(err)
	if cause == nil {
		cause = err
	}
	var authority x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.Is(cause, fs.ErrPermission):
		return maru.WithHint(maru.Errorf(maru.Denied, "you may not use %s", i.where),
			"run it with sudo, or have an administrator add you to the group that owns the socket")
	case errors.Is(cause, fs.ErrNotExist), errors.Is(cause, syscall.ECONNREFUSED):
		return maru.WithHint(maru.Errorf(maru.Unavailable, "no server answers at %s", i.where),
			"start one with `maru start`, or choose one elsewhere with `maru context`")
	case errors.As(cause, &authority), errors.As(cause, &verification):
		return maru.WithHint(maru.Errorf(maru.Denied, "%s shows a certificate that is not trusted: %w", i.where, cause),
			"log in again with the fingerprint that `maru login` shows on the server's machine")
	}
	return maru.WithHint(maru.Errorf(maru.Unavailable, "the server at %s is away: %w", i.where, cause), "try again in a moment")
}
