package server

import (
	"context"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/marucloud/maru"
)

// Deps are the roles behind the API. Those marked optional may be nil: their procedures answer that
// they are unsupported.
type Deps struct {
	Store           maru.Store
	Control         Control
	State           State
	Jobs            Jobs
	Traffic         Traffic // optional
	Routes          Routes  // optional
	Engine          maru.Engine
	Images          maru.Images
	Volumes         maru.Volumes
	Logs            maru.Logs
	Execer          maru.Execer    // optional
	Forwarder       maru.Forwarder // optional
	Meter           maru.Meter     // optional
	Builder         Builder        // optional
	Pipelines       Pipelines      // optional
	WorkflowSecrets Secrets        // of workflows; optional
	Tokens          Tokens
	Grants          Grants
	Secrets         Secrets
	Backups         Backups       // optional
	Processes       Processes     // optional
	Certificates    Certificates  // optional
	Runs            Runs          // optional
	Environments    Environments  // optional
	Repositories    Repositories  // optional
	Followed        Followed      // optional
	Webhooks        http.Handler  // of the paths below /git/-/hooks/; optional
	Performance     Performance   // optional
	Receivers       Receivers     // optional
	Git             http.Handler  // of the paths below /git/; optional
	Registry        Registry      // optional
	Authority       func() []byte // certificate of the local certificate authority in PEM; optional
}

// Control carries out what people ask for. Each call is on the disk once it returned nil, and happens
// even if this process dies.
type Control interface {
	Deploy(ctx context.Context, d maru.Deployment) (r maru.Rollout, changed bool, err error)
	// Plan tells what Deploy would do; refusal is why it would not.
	Plan(ctx context.Context, d maru.Deployment) (changes []maru.ServiceChange, refusal, err error)
	Rollback(ctx context.Context, scope maru.Scope, to int, by string) (r maru.Rollout, changed bool, err error)
	// Promote lets services go to their next step, or with all to their end.
	Promote(ctx context.Context, scope maru.Scope, services []string, all bool, by string) (maru.Rollout, error)
	// Abort turns the rollout that is under way back.
	Abort(ctx context.Context, scope maru.Scope, by string) (maru.Rollout, error)
	// Pause has it stay at its present shares, or go on.
	Pause(ctx context.Context, scope maru.Scope, paused bool, by string) (maru.Rollout, error)
	Restart(ctx context.Context, scope maru.Scope, services []string, by string) (maru.Rollout, error)
	Scale(ctx context.Context, scope maru.Scope, replicas map[string]int, by string) error
	Stop(ctx context.Context, scope maru.Scope, services []string, by string) error
	Start(ctx context.Context, scope maru.Scope, services []string, by string) error
	Remove(ctx context.Context, scope maru.Scope, by string) (maru.Rollout, error)
	// Forget drops the history of an app that was removed; Conflict when it is there.
	Forget(ctx context.Context, scope maru.Scope) error
}

// State tells what is wanted and what is.
type State interface {
	Apps(ctx context.Context, scope maru.Scope) ([]maru.AppSummary, error)
	Status(ctx context.Context, scope maru.Scope) (maru.AppStatus, error)
	Watch(ctx context.Context, scope maru.Scope) iter.Seq2[maru.AppStatus, error]
	Releases(ctx context.Context, scope maru.Scope, service string) ([]maru.Release, error)
	Rollouts(ctx context.Context, scope maru.Scope) ([]maru.Rollout, error)
	Instance(ctx context.Context, scope maru.Scope, id string) (maru.WorkloadID, maru.Instance, error)
}

// Certificates keeps the gateway's certificates.
type Certificates interface {
	// Add keeps one in the place of an earlier one of that name; Invalid for what can't be used.
	Add(ctx context.Context, by, name string, c maru.Certificate) (maru.CertificateInfo, error)
	// Certificates gives all that the gateway shows or is to show, sorted by source and name.
	Certificates(ctx context.Context) ([]maru.CertificateInfo, error)
	// Remove forgets one that was added; NotFound.
	Remove(ctx context.Context, by, name string) error
}

// Traffic tells how far the data planes are.
type Traffic interface {
	// InForce waits until they have in force what follows from the state that State has told of so far.
	InForce(ctx context.Context) error
}

// Routes tells where requests at the gateway go, by what the gateway decides with.
type Routes interface {
	// Routes gives the routes of all services, by service.
	Routes(ctx context.Context) ([]maru.RouteStatus, error)
	// Explain tells what the gateway would do with a request.
	Explain(ctx context.Context, q maru.RouteQuestion) (maru.RouteAnswer, error)
}

// Jobs prepares one-offs and knows what is in use.
type Jobs interface {
	Workload(ctx context.Context, service maru.ServiceID, release int, id string, command []string) (maru.Workload, error)
	Images(ctx context.Context) ([]string, error)
	SecretsInUse(ctx context.Context, scope maru.Scope) ([]maru.SecretVersion, error)
}

// Performance tells how software delivery goes.
type Performance interface {
	// Dora gives the figures of each app and environment of a scope, whose empty parts match all, sorted.
	Dora(ctx context.Context, scope maru.Scope, q maru.DoraQuestion) ([]maru.Dora, error)
}

// Receivers keeps who is told of what happens. By names who did it; scopes are exactly a receiver's, but of a list.
type Receivers interface {
	// Add keeps a receiver in the place of one of that name, and gives the key of its signatures if one was made;
	// Invalid.
	Add(ctx context.Context, by string, r maru.Receiver, t maru.ReceiverTarget) (made maru.Receiver, secret string, err error)
	// Receivers lists those of a scope, whose empty parts match all, sorted.
	Receivers(ctx context.Context, scope maru.Scope) ([]maru.ReceiverStatus, error)
	// Troubles tells in words of receivers of an app's events that could not be told of some.
	Troubles(ctx context.Context, app maru.Scope) ([]string, error)
	// Remove forgets a receiver; NotFound.
	Remove(ctx context.Context, by string, scope maru.Scope, name string) error
	// Test tells a receiver something at once; NotFound, Unavailable (how that went wrong).
	Test(ctx context.Context, by string, scope maru.Scope, name string) error
}

// Runs keeps what follows from pushes. By names who did it. A number of 0 is that of the newest run.
type Runs interface {
	// Runs lists those of a scope, whose empty parts match all, newest first.
	Runs(ctx context.Context, scope maru.Scope) ([]maru.Run, error)
	// Log gives what a run wrote, and with follow what it writes until it ends or waits for approval; NotFound.
	Log(ctx context.Context, scope maru.Scope, number int, follow bool) (maru.Run, iter.Seq2[maru.RunLogLine, error], error)
	// Retry makes a new run of the commit of one that is over; Conflict for one that is not. Its workflows' jobs that
	// succeeded are not run again, unless all is set.
	Retry(ctx context.Context, scope maru.Scope, number int, all bool, by string) (maru.Run, error)
	// Cancel ends a run; Conflict once its rollout has begun.
	Cancel(ctx context.Context, scope maru.Scope, number int, by string) (maru.Run, error)
	// Approve lets a run go on; Conflict for one that does not wait for it.
	Approve(ctx context.Context, scope maru.Scope, number int, by string) (maru.Run, error)
	// Git holds an environment against the branch that goes there; false: no branch of a repository does.
	Git(ctx context.Context, scope maru.Scope) (maru.GitStatus, bool, error)
}

// Environments keeps those that branches have of their own.
type Environments interface {
	// Previews lists those of a scope, whose empty parts match all, also those that are being taken away.
	Previews(ctx context.Context, scope maru.Scope) ([]maru.Environment, error)
	// Leave has one taken away, with all that is in it; NotFound.
	Leave(ctx context.Context, scope maru.Scope, why string) error
	// Promote makes a run that deploys to the scope what the app runs in another environment.
	Promote(ctx context.Context, scope maru.Scope, from, by string) (maru.Run, error)
}

// Repositories keeps what is set for apps' Git repositories.
type Repositories interface {
	// Repository tells of one; NotFound.
	Repository(ctx context.Context, id maru.RepositoryID) (maru.Repository, error)
	// Protect has branches that fit the pattern protected, or no more; Invalid for what is no pattern.
	Protect(ctx context.Context, id maru.RepositoryID, pattern string, protected bool) (maru.Repository, error)
}

// Followed has repositories elsewhere followed.
type Followed interface {
	// Follow has one followed from now on, in the place of another; Invalid.
	Follow(ctx context.Context, to maru.Following) (maru.Following, error)
	// Unfollow ends that; NotFound.
	Unfollow(ctx context.Context, id maru.RepositoryID) error
	// Following tells how it goes; NotFound.
	Following(ctx context.Context, id maru.RepositoryID) (maru.FollowingStatus, error)
}

// Builder makes images from source.
type Builder interface {
	// Build makes the image and gives it by digest, present in the image store. Progress may be nil.
	Build(ctx context.Context, req BuildRequest, progress func(BuildProgress)) (maru.Image, error)
}

// BuildRequest says what to build.
type BuildRequest struct {
	Service    maru.ServiceID
	Name       string     // reference for the image, with or without a tag
	Build      maru.Build // its contexts are folders on this machine, or URLs
	Secrets    map[string][]byte
	Volumes    []string // paths where the service mounts volumes
	Registries map[string]Credentials
}

// Credentials are a user's name and password, or token, at an image registry.
type Credentials struct{ Username, Password string }

// BuildProgress is something that happened in a build.
type BuildProgress struct {
	Step   string // for people, such as "[build 2/5] RUN make"
	Status string // started, cached, done, failed; "" when it only wrote a line
	Log    string // one line of output
}

// Pipelines run workflows.
type Pipelines interface {
	// Run runs the workflows of a source tree and tells of them, by one goroutine at a time, until they
	// have ended; each tells RunEnded last. When ctx ends they are cancelled. Invalid or Unsupported: what
	// is in the files can't be run, and nothing was.
	Run(ctx context.Context, req RunRequest, tell func(maru.RunEvent)) error
}

// RunRequest says what to run.
type RunRequest struct {
	Scope         maru.Scope
	Folder        string // of the source tree, on this machine
	GitHub        bool   // the workflows are in .github/workflows
	Workflows     []string
	Event         string
	Ref           string
	SHA           string
	Base          string
	DefaultBranch string
	Message       string
	By            string
	Inputs        map[string]string
}

// Registry keeps images that people push, and serves the paths below /v2/.
type Registry interface {
	http.Handler
	// Image gives the engine's name for the reference of an image that is in this registry. The scope is that
	// of who asks; Denied when it does not reach the image.
	Image(ctx context.Context, reference string, scope maru.Scope) (image string, own bool, err error)
}

// Tokens keeps the API's credentials. By names who did it.
type Tokens interface {
	// Authenticate gives the token that has the secret; Unauthenticated when there is none, or it expired.
	Authenticate(ctx context.Context, secret string) (maru.Token, error)
	// CreateToken makes a token of the name, role, scope and expiry in t, and gives its secret. The
	// server has checked that the caller may give that much.
	CreateToken(ctx context.Context, by string, t maru.Token) (secret string, made maru.Token, err error)
	// Tokens lists all.
	Tokens(ctx context.Context) ([]maru.Token, error)
	// RevokeToken ends the token with that ID at once; NotFound.
	RevokeToken(ctx context.Context, by, id string) error
}

// Grants keeps what apps may have of the host. By names who did it.
type Grants interface {
	// Check tells whether the scope was granted all that the services reach into. The error is Denied,
	// names what is missing, and hints at how to grant it.
	Check(ctx context.Context, scope maru.Scope, services map[string]maru.Service) error
	// Grants lists all.
	Grants(ctx context.Context) ([]maru.Grant, error)
	// AddGrant is idempotent; Invalid when there is no such ability.
	AddGrant(ctx context.Context, by string, g maru.Grant) error
	// RemoveGrant takes away exactly this one; NotFound.
	RemoveGrant(ctx context.Context, by string, scope maru.Scope, ability string) error
}

// Secrets keeps secrets, encrypted, with their versions. An app sees its own before its environment's,
// which have an empty app in their scope. By names who did it.
type Secrets interface {
	// SetSecret stores the value as the next version, unless it is that of the newest.
	SetSecret(ctx context.Context, by string, scope maru.Scope, name string, value []byte) (version int, changed bool, err error)
	// Visible gives the newest version that the app in the scope sees; NotFound.
	Visible(ctx context.Context, scope maru.Scope, name string) (maru.SecretInfo, error)
	// SecretEquals tells whether the newest version of exactly this scope has the value; NotFound.
	SecretEquals(ctx context.Context, scope maru.Scope, name string, value []byte) (bool, error)
	// Secrets lists those of a scope, whose empty parts match all, sorted.
	Secrets(ctx context.Context, scope maru.Scope) ([]maru.SecretInfo, error)
	// RemoveSecret forgets all versions in exactly this scope; NotFound.
	RemoveSecret(ctx context.Context, by string, scope maru.Scope, name string) error
}

// Backups saves the whole state and brings it back.
type Backups interface {
	// Backup writes state and volumes as one stream that the passphrase encrypts.
	Backup(ctx context.Context, w io.Writer, passphrase string, volumes bool) error
	// Restore takes what Backup wrote; Conflict on a machine with apps.
	Restore(ctx context.Context, r io.Reader, passphrase string) (Restored, error)
}

// Restored tells what a backup brought.
type Restored struct {
	Apps    []string
	Volumes []string
}

// Processes tells how the platform's processes are.
type Processes interface {
	Processes(ctx context.Context) ([]Process, error)
}

// Process is one process of the platform.
type Process struct {
	Name    string // supervisor, server, proxy, runtime, builder
	State   string // running, idle, starting, away
	Message string
	Version string
	PID     int
	Since   time.Time
}
