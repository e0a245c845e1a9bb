package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
)

// Caller is who makes a request and what it may do. Empty parts of its scope match all.
type Caller struct {
	Name    string
	Role    maru.Role
	Scope   maru.Scope
	Method  string // socket or token
	TokenID string
}

// The ways in.
const (
	viaSocket = "socket"
	viaToken  = "token"
)

type (
	callerKey struct{}
	peerKey   struct{}
)

func callerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// callerName names the caller for what is kept: releases, rollouts, events.
func callerName(ctx context.Context) string {
	c, _ := callerOf(ctx)
	return c.Name
}

// peer is the process at the other end of a unix socket.
type peer struct{ uid int }

// ConnContext notes who is at the other end of a connection. An http.Server that serves
// [Server.Handler] on a unix socket must have it, or nobody is let in there without a token.
func (s *Server) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(unix)
	if err != nil {
		s.log.WarnContext(ctx, "no credentials from a socket", "error", err)
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer{uid})
}

// gate finds out who calls, before any message is read.
func (s *Server) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, header http.Header) (context.Context, error) {
	c, ok, err := s.identify(ctx, header)
	if err != nil {
		return ctx, wireError(ctx, s.log, spec.Procedure, err)
	}
	if ok {
		ctx = context.WithValue(ctx, callerKey{}, c)
	}
	if err := admitCaller(ctx, spec.Procedure); err != nil {
		return ctx, wireError(ctx, s.log, spec.Procedure, err)
	}
	return ctx, nil
}

func (s *Server) identify(ctx context.Context, header http.Header) (Caller, bool, error) {
	if secret, ok := bearer(header); ok {
		token, err := s.tokens.Authenticate(ctx, secret)
		if err != nil {
			return Caller{}, false, err
		}
		return Caller{Name: token.Name, Role: token.Role, Scope: token.Scope, Method: viaToken, TokenID: token.ID}, true, nil
	}
	p, ok := ctx.Value(peerKey{}).(peer)
	if !ok {
		return Caller{}, false, nil
	}
	c := Caller{Name: userName(p.uid), Role: s.cfg.SocketRole, Method: viaSocket}
	if p.uid == 0 || p.uid == os.Getuid() {
		c.Role = maru.RoleAdmin
	}
	return c, true, nil
}

func bearer(header http.Header) (string, bool) {
	scheme, secret, ok := strings.Cut(header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(secret), true
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid:" + id
}
