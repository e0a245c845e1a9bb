// Package server is the API's far side: it takes requests from the command line, the dashboard and
// other programs, checks who may do what, and hands them to the roles behind it, which it knows as
// small interfaces only. The contract is api/maru/v1, spoken as Connect, gRPC and gRPC-Web, with
// protobuf or JSON.
//
// Who calls is known by the other end of a unix socket or by a bearer token. One table, rules, says
// for each procedure which role it needs and how its scope is held against the caller's; a procedure
// that is not in it can't be called.
package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/api/gen/maru/v1/maruv1connect"
	"github.com/marucloud/maru/server/sources"
)

// Config tunes a Server. The zero value of a field is its default.
type Config struct {
	Data       string      // folder for build contexts, absolute; required
	SocketRole maru.Role   // of those who reach the unix socket and are neither root nor this user; default deploy
	Version    VersionInfo // what Info tells
	Host       string      // names this machine as the source of events
	HTTPPort   uint16      // of the gateway, for addresses; 0: none
	HTTPSPort  uint16      // of the gateway, for addresses; 0: none
	Sources    sources.Config
}

// VersionInfo tells what is running.
type VersionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
}

// Validate tells what is wrong with the configuration. The error is of kind Invalid.
func (c Config) Validate() error {
	if c.Data == "" {
		return maru.Errorf(maru.Invalid, "the server's data folder is missing")
	}
	if c.SocketRole != "" && !c.SocketRole.Valid() {
		return maru.Errorf(maru.Invalid, "role %q of the socket's users is unknown", c.SocketRole)
	}
	return nil
}

// Server serves the API. It is safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	deps    Deps
	tokens  Tokens
	sources *sources.Store
	handler http.Handler
	public  http.Handler // what the gateway leads here

	unreleased sync.RWMutex // held for reading while there are images that no release uses yet

	closing context.Context // ends streams; its cause is what they end with
	close   context.CancelCauseFunc
}

// maxMessage is the longest message that is read: a manifest of a large folder.
const maxMessage = 128 << 20

// New makes a server. Nothing runs before [Server.Run].
func New(cfg Config, deps Deps, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.SocketRole == "" {
		cfg.SocketRole = maru.RoleDeploy
	}
	kept, err := sources.Open(cfg.Data, cfg.Sources)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, deps: deps, tokens: deps.Tokens, sources: kept}
	s.closing, s.close = context.WithCancelCause(context.Background())
	s.public = s.outside()
	s.handler = s.routes()
	return s, nil
}

// Handler serves the API under its procedures' paths, for a server around it that is not
// [Server.Serve]: one that has [Server.ConnContext], and HTTP/2 (without TLS on a unix socket) for exec
// and forward.
func (s *Server) Handler() http.Handler { return s.handler }

// Run forgets build contexts that were not used for long, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	return s.sources.Run(ctx, func(err error) { s.log.WarnContext(ctx, "clean build contexts", "error", err) })
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	options := []connect.HandlerOption{
		connect.WithRequestGate(s.gate),
		connect.WithInterceptors(errorInterceptor{s}, policyInterceptor{}),
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(64 << 10),
	}
	mux.Handle(maruv1connect.NewAppServiceHandler(appService{s}, options...))
	mux.Handle(maruv1connect.NewRouteServiceHandler(routeService{s}, options...))
	mux.Handle(maruv1connect.NewRunServiceHandler(runService{s}, options...))
	mux.Handle(maruv1connect.NewEnvironmentServiceHandler(environmentService{s}, options...))
	mux.Handle(maruv1connect.NewRepositoryServiceHandler(repositoryService{s}, options...))
	mux.Handle(maruv1connect.NewDeliveryServiceHandler(deliveryService{s}, options...))
	mux.Handle(maruv1connect.NewNotifyServiceHandler(notifyService{s}, options...))
	mux.Handle(maruv1connect.NewLogServiceHandler(logService{s}, options...))
	mux.Handle(maruv1connect.NewExecServiceHandler(execService{s}, options...))
	mux.Handle(maruv1connect.NewPipelineServiceHandler(pipelineService{s}, options...))
	mux.Handle(maruv1connect.NewImageServiceHandler(imageService{s}, options...))
	mux.Handle(maruv1connect.NewVolumeServiceHandler(volumeService{s}, options...))
	mux.Handle(maruv1connect.NewSecretServiceHandler(secretService{s}, options...))
	mux.Handle(maruv1connect.NewConfigServiceHandler(configService{s}, options...))
	mux.Handle(maruv1connect.NewEnvServiceHandler(envService{s}, options...))
	mux.Handle(maruv1connect.NewAccessServiceHandler(accessService{s}, options...))
	mux.Handle(maruv1connect.NewCertificateServiceHandler(certificateService{s}, options...))
	mux.Handle(maruv1connect.NewSourceServiceHandler(sourceService{s}, options...))
	mux.Handle(maruv1connect.NewSystemServiceHandler(systemService{s}, options...))
	mux.Handle("/git/", s.public)
	mux.Handle("/v2/", s.public)
	return mux
}

// hooksPrefix begins the paths of webhooks. No repository is named so.
const hooksPrefix = "/git/-/hooks/"

// outside serves what other programs than Maru's speak, each with credentials of its own.
func (s *Server) outside() http.Handler {
	mux := http.NewServeMux()
	if s.deps.Git != nil {
		mux.Handle("/git/", s.deps.Git)
	}
	if s.deps.Registry != nil {
		mux.Handle("/v2/", s.deps.Registry)
	}
	if s.deps.Webhooks != nil {
		mux.Handle(hooksPrefix, s.deps.Webhooks)
	}
	return mux
}
