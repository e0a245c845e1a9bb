package source

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Prefix begins the paths of repositories: PREFIX APP.git, or PREFIX PROJECT/APP.git.
const Prefix = "/git/"

// Authenticator finds out who has a token.
type Authenticator interface {
	// Authenticate gives the token that has the secret; Unauthenticated.
	Authenticate(ctx context.Context, secret string) (maru.Token, error)
}

// Receiver decides about pushes, and is told of them.
type Receiver interface {
	// Admit tells what holds for the refs that a push moves. An error refuses the whole push.
	Admit(ctx context.Context, push maru.Push) (Admission, error)
	// Received makes durable what follows from those updates of a push that were made, maybe none. It is called
	// once for each push that was admitted, unless this process dies meanwhile. Follow then tells a person how
	// that goes, line by line, until it ended; its error is how it failed. Following ends with ctx, what is
	// followed does not.
	Received(ctx context.Context, push maru.Push) (follow func(ctx context.Context, tell func(line string)) error, err error)
}

// Admission is what holds for the refs of a push. What breaks it refuses the whole push.
type Admission struct {
	Protected []string // they may only be moved forward
	Unwanted  []Unwanted
}

// Unwanted is what a ref may not be moved to.
type Unwanted struct {
	Ref  string
	Name string // object name of a commit, or of a tree: any commit with these files
	Why  string // in one line, with what to do
}

// Handler serves repositories to people with tokens.
type Handler struct {
	repositories *Repositories
	tokens       Authenticator
	receiver     Receiver
}

// NewHandler makes a handler for the paths below [Prefix].
func NewHandler(repositories *Repositories, tokens Authenticator, receiver Receiver) *Handler {
	return &Handler{repositories, tokens, receiver}
}

// The services of Git's smart protocol, and the role that each needs.
const (
	uploadPack  = "git-upload-pack"  // fetch
	receivePack = "git-receive-pack" // push
)

// exchange is one use of a repository, whichever way its client came.
type exchange struct {
	*Handler
	ctx      context.Context // ends when the client is gone
	id       maru.RepositoryID
	dir      string
	service  string
	protocol string // version that the client speaks (gitprotocol-v2(5)); "": the oldest
	token    maru.Token
}

// call is an exchange by HTTP.
type call struct {
	exchange
	w http.ResponseWriter
	r *http.Request
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	c := &call{exchange{Handler: h, ctx: r.Context(), protocol: protocolOf(r.Header.Get("Git-Protocol"))}, w, r}
	answer, err := c.find()
	if err != nil {
		return err
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.admit(); err != nil {
		return err
	}
	return answer()
}

// find says what the request is about.
func (c *call) find() (answer func() error, err error) {
	path := strings.TrimPrefix(c.r.URL.Path, Prefix)
	unknown := maru.WithHint(maru.Errorf(maru.NotFound, "%s is no address of a Git repository", c.r.URL.Path),
		"it looks like "+Prefix+"APP.git, or "+Prefix+"PROJECT/APP.git")
	var name string
	method := http.MethodPost
	switch {
	case strings.HasSuffix(path, "/info/refs"):
		name, method = strings.TrimSuffix(path, "/info/refs"), http.MethodGet
		c.service, answer = c.r.URL.Query().Get("service"), c.advertise
		if c.service != uploadPack && c.service != receivePack {
			return nil, maru.WithHint(maru.Errorf(maru.Denied, "this client speaks Git's dumb protocol"), "use a git of this decade")
		}
	case strings.HasSuffix(path, "/"+uploadPack):
		name, c.service, answer = strings.TrimSuffix(path, "/"+uploadPack), uploadPack, c.fetch
	case strings.HasSuffix(path, "/"+receivePack):
		name, c.service, answer = strings.TrimSuffix(path, "/"+receivePack), receivePack, c.push
	default:
		return nil, unknown
	}
	if c.r.Method != method {
		return nil, maru.Errorf(maru.Unsupported, "%s is not done there", c.r.Method)
	}
	if c.id, err = parseName(name); err != nil {
		return nil, unknown
	}
	return answer, nil
}

// parseName reads APP.git or PROJECT/APP.git.
func parseName(name string) (maru.RepositoryID, error) {
	project, app, ok := strings.Cut(strings.TrimSuffix(name, suffix), "/")
	if !ok {
		project, app = maru.DefaultProject, project
	}
	id := maru.RepositoryID{Project: project, App: app}
	return id, id.Validate()
}

// authenticate finds out who asks.
func (c *call) authenticate() (err error) {
	user, secret, ok := c.r.BasicAuth()
	if !ok {
		return maru.Errorf(maru.Unauthenticated, "no credentials")
	}
	if secret == "" {
		secret = user
	}
	c.token, err = c.tokens.Authenticate(c.ctx, secret)
	return err
}

// admit tells whether the token's holder may, and finds the repository; the first push makes it.
func (c *exchange) admit() (err error) {
	role := maru.RoleRead
	if c.service == receivePack {
		role = maru.RoleDeploy
	}
	// Commits are the same in all environments: a token for one of them reaches them.
	if !c.token.Scope.Covers(c.id.In(c.token.Scope.Environment)) {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token %s is not for %s", c.token.Name, c.id), "use a token for that app")
	}
	if !c.token.Role.Includes(role) {
		return maru.WithHint(maru.Errorf(maru.Denied, "the token %s has the role %s; this needs %s", c.token.Name, c.token.Role, role),
			"ask an administrator for a token with the role "+string(role))
	}
	if c.service == receivePack {
		if err := c.repositories.Create(c.ctx, c.id); err != nil {
			return err
		}
	}
	c.dir, err = c.repositories.find(c.id)
	return err
}

// fail answers with an error. Git shows the text of most to people.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	switch maru.KindOf(err) {
	case maru.NotFound:
		status = http.StatusNotFound
	case maru.Unauthenticated:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="Maru: any name, and a token as the password", charset="UTF-8"`)
	case maru.Denied:
		status = http.StatusForbidden
	case maru.Invalid, maru.Interrupted:
		status = http.StatusBadRequest
	case maru.Exhausted:
		status = http.StatusRequestEntityTooLarge
	case maru.Unsupported:
		status = http.StatusNotImplemented
	case maru.Unavailable:
		status = http.StatusServiceUnavailable
	}
	text := h.explain(r.Context(), r.URL.Path, err)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// explain gives what a client is told of an error. The inner ones are for the log.
func (h *Handler) explain(ctx context.Context, what string, err error) string {
	if maru.KindOf(err) == maru.Internal {
		h.repositories.log.ErrorContext(ctx, "a request for a Git repository failed", "request", what, "error", err)
		err = errors.New("internal error: the server's log has more")
	}
	return withHint(err)
}

// advertise tells what the repository has.
func (c *call) advertise() error {
	refs, err := c.refs()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-"+c.service+"-advertisement")
	var head []byte
	if c.service == receivePack || !strings.Contains(c.protocol, "version=2") {
		head = append(appendLine(nil, []byte("# service="+c.service+"\n")), flushLine...)
	}
	_, _ = c.w.Write(append(head, refs...)) // a client that is gone needs no answer
	return nil
}

// refs gives what the repository has, as the service begins.
func (c *exchange) refs() ([]byte, error) {
	out, err := c.git(c.ctx, strings.TrimPrefix(c.service, "git-"), "--stateless-rpc", "--http-backend-info-refs", c.dir).Output()
	if err != nil {
		return nil, gitError(c.service, err, "")
	}
	return out, nil
}

// git makes a call of git that speaks the client's version of the protocol.
func (c *exchange) git(ctx context.Context, args ...string) *exec.Cmd {
	cmd := c.repositories.git(ctx, c.dir, args...)
	if c.protocol != "" {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+c.protocol)
	}
	return cmd
}

// protocolOf gives what a client says of its version if that can be passed on.
func protocolOf(version string) string {
	if strings.Trim(version, "abcdefghijklmnopqrstuvwxyz0123456789=:-") != "" {
		return ""
	}
	return version
}

// fetch answers git fetch.
func (c *call) fetch() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-"+c.service+"-result")
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	cmd := c.git(ctx, "upload-pack", "--stateless-rpc", c.dir)
	cmd.Stdin, cmd.Stdout = body, c.w
	cmd.WaitDelay = time.Second
	// What went wrong git told the client, if it is still there.
	if err := cmd.Run(); err != nil {
		c.repositories.log.DebugContext(ctx, "a fetch ended early", "repository", c.id.String(), "error", err)
	}
	return nil
}

// push answers git push.
func (c *call) push() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/x-"+c.service+"-result")
	return c.receive(body, c.w, http.NewResponseController(c.w).Flush)
}

// body gives what the client sends, for as long as it sends.
func (c *call) body() (io.Reader, error) {
	control := http.NewResponseController(c.w)
	// Git may answer before it read everything. HTTP/2 allows that anyway, and says that it is not supported.
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	var body io.Reader = &patientReader{c.r.Body, control, c.repositories.cfg.Idle}
	if c.r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return nil, maru.Errorf(maru.Invalid, "read what is sent: %w", err)
		}
		body = unpacked
	}
	return body, nil
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
