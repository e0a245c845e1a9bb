package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
)

// Prefix begins the paths of the protocol.
const Prefix = "/v2/"

// Authenticator finds out who has a token.
type Authenticator interface {
	// Authenticate gives the token that has the secret; Unauthenticated.
	Authenticate(ctx context.Context, secret string) (maru.Token, error)
}

// Store is where content is kept.
type Store interface {
	maru.Repositories
	maru.Uploads
}

// Releases tells of what is released.
type Releases interface {
	// Releases gives the releases of a service that are kept.
	Releases(ctx context.Context, scope maru.Scope, service string) ([]maru.Release, error)
}

// Config tunes a Handler. The zero value of a field is its default.
type Config struct {
	Hosts   []string      // of this registry in references of images, with ports
	Grace   time.Duration // for how long content that no tag leads to is kept; default 24 hours
	Tags    int           // tagged manifests that are kept in each repository, the last that were pushed; 0: all
	Collect time.Duration // between looks for such content; default 1 hour
	Idle    time.Duration // a client that sends nothing for so long is given up; default 2 minutes
}

func (c Config) withDefaults() Config {
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	if c.Collect == 0 {
		c.Collect = time.Hour
	}
	if c.Idle == 0 {
		c.Idle = 2 * time.Minute
	}
	return c
}

// Handler serves the registry to people with tokens.
type Handler struct {
	cfg      Config
	store    Store
	tokens   Authenticator
	releases Releases
	log      *slog.Logger

	// Held for reading while a manifest is pushed, so that nothing it is made of is collected meanwhile.
	pushing sync.RWMutex
	parsed  manifestCache
}

// New makes a handler for the paths below [Prefix]. Nothing is collected before [Handler.Run].
func New(cfg Config, store Store, tokens Authenticator, releases Releases, log *slog.Logger) *Handler {
	return &Handler{cfg: cfg.withDefaults(), store: store, tokens: tokens, releases: releases, log: log}
}

// call is one request.
type call struct {
	*Handler
	w     http.ResponseWriter
	r     *http.Request
	token maru.Token
	name  name
	last  string // part of the path: a digest, tag, or upload
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	c := &call{Handler: h, w: w, r: r}
	if err := c.serve(); err != nil {
		h.fail(w, r, err)
	}
}

func (c *call) serve() (err error) {
	if c.token, err = c.authenticate(); err != nil {
		return err
	}
	methods, err := c.find()
	if err != nil {
		return err
	}
	serve, ok := methods[c.r.Method]
	if !ok {
		return problem("UNSUPPORTED", maru.Errorf(maru.Unsupported, "%s is not done at %s", c.r.Method, c.r.URL.Path))
	}
	if c.name.written != "" {
		if err := c.admit(); err != nil {
			return err
		}
	}
	return serve()
}

// authenticate reads the credentials that docker login and its like send: a token as the password, with
// any name, or a bearer token.
func (c *call) authenticate() (maru.Token, error) {
	secret, ok := secretOf(c.r)
	if !ok {
		return maru.Token{}, maru.WithHint(maru.Errorf(maru.Unauthenticated, "no credentials"), "log in with any name, and a token as the password")
	}
	return c.tokens.Authenticate(c.r.Context(), secret)
}

func secretOf(r *http.Request) (string, bool) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	user, secret, ok := r.BasicAuth()
	if secret == "" {
		secret = user
	}
	return secret, ok
}

type methods map[string]func() error

// find says what a path is about.
func (c *call) find() (methods, error) {
	path, ok := strings.CutPrefix(c.r.URL.Path+"/", Prefix)
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), "/")
	if !ok {
		path = "?"
	}
	switch path {
	case "":
		return methods{http.MethodGet: c.version, http.MethodHead: c.version}, nil
	case "_catalog":
		return methods{http.MethodGet: c.catalog}, nil
	}
	parts := strings.Split(path, "/")
	at := func(fromEnd int) string {
		if fromEnd >= len(parts) {
			return ""
		}
		return parts[len(parts)-1-fromEnd]
	}
	c.last = at(0)
	begins, found := 2, methods(nil) // begins is how many parts are not of the name
	switch {
	case at(2) == "blobs" && at(1) == "uploads":
		begins, found = 3, methods{http.MethodGet: c.uploadStatus, http.MethodPatch: c.uploadPiece, http.MethodPut: c.uploadEnd, http.MethodDelete: c.uploadCancel}
	case at(1) == "blobs" && at(0) == "uploads":
		found = methods{http.MethodPost: c.uploadBegin}
	case at(1) == "blobs":
		found = methods{http.MethodGet: c.blob, http.MethodHead: c.blob, http.MethodDelete: c.removeBlob}
	case at(1) == "manifests":
		found = methods{http.MethodGet: c.manifest, http.MethodHead: c.manifest, http.MethodPut: c.putManifest, http.MethodDelete: c.removeManifest}
	case at(1) == "tags" && at(0) == "list":
		found = methods{http.MethodGet: c.tags}
	case at(1) == "referrers":
		found = methods{http.MethodGet: c.referrers}
	}
	if found == nil || len(parts) <= begins {
		return nil, &coded{"UNSUPPORTED", http.StatusNotFound, maru.Errorf(maru.NotFound, "%s is no address of the registry", c.r.URL.Path)}
	}
	var err error
	if c.name, err = parseName(strings.Join(parts[:len(parts)-begins], "/")); err != nil {
		return nil, problem("NAME_INVALID", err)
	}
	return found, nil
}

// reading tells whether the request changes nothing.
func (c *call) reading() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

// admit tells whether the token is good for what is asked.
func (c *call) admit() error {
	if c.reading() && !strings.Contains(c.r.URL.Path, "/blobs/uploads/") {
		return mayPull(c.token, c.name)
	}
	return mayPush(c.token, c.name)
}

// mayPull tells whether a token may read a repository. What people push is the same in all environments: a
// token for one of them reads it.
func mayPull(t maru.Token, n name) error {
	scope := n.scope
	if !n.releases() {
		scope.Environment = t.Scope.Environment
	}
	if !t.Scope.Covers(scope) || !t.Role.Includes(maru.RoleRead) {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token %s is not for %s", t.Name, n.written), "use a token for that app")
	}
	return nil
}

// mayPush tells whether a token may change a repository, and with it what all environments find under a tag.
func mayPush(t maru.Token, n name) error {
	if n.releases() {
		return maru.WithHint(maru.Errorf(maru.Denied, "%s has the images of releases: they are made by deploys", n.written), "push to APP/NAME or PROJECT/APP/NAME")
	}
	if err := mayPull(t, n); err != nil {
		return err
	}
	if !t.Role.Includes(maru.RoleDeploy) {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token %s has the role %s; this needs %s", t.Name, t.Role, maru.RoleDeploy),
			"ask an administrator for a token with the role "+string(maru.RoleDeploy))
	}
	if t.Scope.Environment != "" {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token %s is for the environment %s alone, and an image is for all", t.Name, t.Scope.Environment),
			"use a token that is not limited to an environment")
	}
	return nil
}

// version tells that this is a registry, and that the credentials are good.
func (c *call) version() error {
	answer(c.w, http.StatusOK, "application/json", struct{}{})
	return nil
}

// body gives what the client sends, for as long as it sends.
func (c *call) body() io.Reader {
	return &patientReader{c.r.Body, http.NewResponseController(c.w), c.cfg.Idle}
}

// patientReader gives up a client that sends nothing for too long.
type patientReader struct {
	io.Reader
	control *http.ResponseController
	idle    time.Duration
}

func (p *patientReader) Read(b []byte) (int, error) {
	if err := p.control.SetReadDeadline(time.Now().Add(p.idle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
