package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// codes maps the kinds of error to the transport's codes. The kind itself travels as a detail, so
// that kinds which share a code stay apart.
var codes = map[maru.Kind]connect.Code{
	maru.NotFound:        connect.CodeNotFound,
	maru.Exists:          connect.CodeAlreadyExists,
	maru.Conflict:        connect.CodeAborted,
	maru.Invalid:         connect.CodeInvalidArgument,
	maru.Denied:          connect.CodePermissionDenied,
	maru.Unauthenticated: connect.CodeUnauthenticated,
	maru.Exhausted:       connect.CodeResourceExhausted,
	maru.Unavailable:     connect.CodeUnavailable,
	maru.Unsupported:     connect.CodeUnimplemented,
	maru.RolledBack:      connect.CodeFailedPrecondition,
	maru.Interrupted:     connect.CodeCanceled,
	maru.Internal:        connect.CodeInternal,
}

// wireError makes an error that may leave the process. The text of an internal one stays behind, in
// the log under an ID that the caller gets.
func wireError(ctx context.Context, log *slog.Logger, procedure string, err error) error {
	if err == nil {
		return nil
	}
	var protocol *connect.Error
	var own *maru.Error
	if errors.As(err, &protocol) && !errors.As(err, &own) {
		return protocol
	}
	kind := maru.KindOf(err)
	if kind == maru.Internal && ctx.Err() != nil {
		err = maru.Errorf(maru.Interrupted, "the request ended: %w", context.Cause(ctx))
		kind = maru.Interrupted
	}
	detail := &maruv1.ErrorDetail{Kind: string(kind), Hint: maru.HintOf(err)}
	message := err
	code, known := codes[kind]
	if !known || kind == maru.Internal {
		detail.Id = "e-" + strings.ToLower(rand.Text()[:10])
		log.ErrorContext(ctx, "internal error", "id", detail.Id, "procedure", procedure, "error", err)
		code, message = connect.CodeInternal, errors.New("internal error "+detail.Id)
		detail.Kind = string(maru.Internal)
		detail.Hint = "look for " + detail.Id + " in the server's log"
	}
	return withDetail(connect.NewError(code, message), detail)
}

func withDetail(err *connect.Error, detail proto.Message) error {
	if d, e := connect.NewErrorDetail(detail); e == nil {
		err.AddDetail(d)
	}
	return err
}

// errorInterceptor gives every error its form on the wire, turns panics into internal errors, and ends
// streams when the server does.
type errorInterceptor struct{ server *Server }

func (i errorInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (res connect.AnyResponse, err error) {
		defer func() { err = i.finish(ctx, req.Spec().Procedure, recover(), err) }()
		return next(ctx, req)
	}
}

func (i errorInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(i.server.closing, func() { cancel(context.Cause(i.server.closing)) })
		defer stop()
		defer func() { err = i.finish(ctx, conn.Spec().Procedure, recover(), err) }()
		return next(ctx, conn)
	}
}

func (i errorInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (i errorInterceptor) finish(ctx context.Context, procedure string, panicked any, err error) error {
	switch {
	case panicked == http.ErrAbortHandler: //nolint:errorlint // net/http compares what was panicked with like this, too
		panic(panicked)
	case panicked != nil:
		err = maru.Errorf(maru.Internal, "panic: %v\n%s", panicked, stack())
	case err != nil && errors.Is(context.Cause(ctx), errRestarting):
		err = errRestarting
	}
	return wireError(ctx, i.server.log, procedure, err)
}
