package run

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
)

// Config tunes Runs. The zero value of a field is its default.
type Config struct {
	Folder   string // of the logs, absolute; required
	Parallel int    // runs at once, each of another app or environment; default 4
	Kept     int    // runs of an app in an environment that are kept; default 200
	MaxLog   int64  // longest log, bytes; default 16 MiB
}

// Validate tells what is wrong with the configuration, as Invalid.
func (c Config) Validate() error {
	if c.Folder == "" {
		return maru.Errorf(maru.Invalid, "the folder of the runs' logs is missing")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	if c.Kept <= 0 {
		c.Kept = 200
	}
	if c.MaxLog <= 0 {
		c.MaxLog = 16 << 20
	}
	return c
}

// Repositories have the commits.
type Repositories interface {
	List() []maru.RepositoryID
	Branches(ctx context.Context, id maru.RepositoryID) (branches map[string]string, standard string, err error)
	Default(id maru.RepositoryID) (string, error)
	SetDefault(ctx context.Context, id maru.RepositoryID, branch string) error
	Checkout(ctx context.Context, id maru.RepositoryID, commit string) (source.Checkout, error)
	Subject(ctx context.Context, id maru.RepositoryID, commit string) string
	// Brings gives the changes that a commit has and the one before ("": none) has not, newest first.
	Brings(ctx context.Context, id maru.RepositoryID, before, commit string, most int) (commits []maru.Commit, more int, err error)
	Tree(ctx context.Context, id maru.RepositoryID, commit string) (string, error)
	// Holds tells whether a commit still has all that another one changed, and whether that is an ancestor of it.
	Holds(ctx context.Context, id maru.RepositoryID, commit, before, other string) (holds, contains bool, err error)
	OfferReverts(ctx context.Context, id maru.RepositoryID, wanted []source.Revert) error
}

// Loaded is an app as the compose file of a commit has it.
type Loaded struct {
	App          maru.App
	Warnings     []string
	Secrets      map[string][]byte            // values that came with the file, by key in App.Secrets
	BuildSecrets map[string]map[string][]byte // by service and ID
	CI           string                       // whose workflows test it, as x-maru.ci says
}

// Check is a commit whose workflows are to say whether it is good.
type Check struct {
	Run           maru.Run
	Folder        string
	CI            string
	DefaultBranch string
	Protected     bool // its branch is: those who may push to it may know the workflows' secrets
	Tests         Tests

	// Ended is told when a job succeeded, with its workflow's path and its ID. It may be called by several goroutines.
	Ended func(workflow, job string, result JobResult)
	// Build makes the app's images meanwhile. It is called at most once, when it is known that no job can hand one
	// over, and does not wait.
	Build func()
	// Supersedable is told once it is known that a newer push to the branch may end the check.
	Supersedable func()
}

// Tests is what is known of the workflows of a run from before: neither a restart nor a retry runs again what
// succeeded, unless something that it needs does.
type Tests struct {
	Origin  int                             `json:"origin"`         // the run that it is a retry of, through others as well, or itself: they share artifacts
	Attempt int                             `json:"attempt"`        // from 1
	Kept    map[string]map[string]JobResult `json:"kept,omitempty"` // of the jobs that succeeded, by workflow and job
}

// JobResult is what a job that succeeded gave.
type JobResult struct {
	Outputs map[string]string `json:"outputs,omitempty"`
	Images  map[string]string `json:"images,omitempty"` // that it handed over, by service: NAME@sha256:…
}

// Deployer reads compose files and deploys. Its methods end with ctx, and may be called again after they did.
type Deployer interface {
	// Load reads the compose file in a folder for a run, and no file that is not below it.
	Load(ctx context.Context, folder string, run maru.Run) (Loaded, error)
	// Verify runs the workflows of the commit that a push to the run's branch starts; why the commit is not to be
	// deployed is its error. It gives the images that its jobs handed over, by service: NAME@sha256:…
	Verify(ctx context.Context, check Check, tell func(maru.RunLogLine)) (images map[string]string, err error)
	// Build makes the app's images, so that Release has them. An error says nothing of the commit: Release tries again.
	Build(ctx context.Context, run maru.Run, folder string, app Loaded, tell func(maru.RunLogLine)) error
	// Release makes the app's images, and then releases and a rollout in one durable step; 0: nothing changed.
	// While a rollout to the same state is under way it is that one.
	Release(ctx context.Context, run maru.Run, origin maru.Origin, folder string, app Loaded, tell func(maru.RunLogLine)) (rollout int, err error)
	// Follow tells how a rollout goes until it ended well; an error of kind RolledBack: what ran before runs again.
	Follow(ctx context.Context, run maru.Run, rollout int, tell func(maru.RunLogLine)) error
	// Presence tells what of an app is there in an environment.
	Presence(ctx context.Context, scope maru.Scope) (Presence, error)
	// Begin takes the volumes away of an app that is not deployed, and makes them anew as copies of those that the
	// app has in another environment; "": none.
	Begin(ctx context.Context, scope maru.Scope, clone string) error
	// Serving tells what an app runs; Conflict while that changes.
	Serving(ctx context.Context, scope maru.Scope) (Serving, error)
	// Remove takes away all that an app has in an environment: services, volumes, history, values, configs, secrets.
	Remove(ctx context.Context, scope maru.Scope) error
}

// Runs keeps runs and carries them out. It is safe for concurrent use.
type Runs struct {
	cfg          Config
	store        maru.Store
	repositories Repositories
	deployer     Deployer
	logs         *logs
	log          *slog.Logger

	closing context.Context // ended: nothing is followed any more
	close   context.CancelCauseFunc
	wake    chan struct{}

	mu      sync.Mutex
	working map[maru.Scope]*work
}

// work is what is being done in a scope.
type work struct {
	number       int // of the run that is carried out; 0: the environment is taken away
	branch       string
	cancel       context.CancelCauseFunc
	supersedable bool
}

// errRestarting is why following ends with the process.
var errRestarting = maru.Errorf(maru.Unavailable, "the server is restarting")

// New makes Runs. Nothing is carried out before [Runs.Run].
func New(cfg Config, store maru.Store, repositories Repositories, deployer Deployer, log *slog.Logger) (*Runs, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	r := &Runs{
		cfg: cfg, store: store, repositories: repositories, deployer: deployer, log: log,
		logs: newLogs(cfg.Folder, cfg.MaxLog), wake: make(chan struct{}, 1), working: map[maru.Scope]*work{},
	}
	r.closing, r.close = context.WithCancelCause(context.Background())
	return r, nil
}

// Run carries runs out until ctx ends. Those that are under way then are gone on with by the next process.
func (r *Runs) Run(ctx context.Context) error {
	defer r.close(errRestarting)
	var workers sync.WaitGroup
	defer workers.Wait()
	workers.Go(func() { r.keepReverts(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, err := r.expire(ctx, time.Now())
		if err == nil {
			err = r.begin(ctx, &workers)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("runs can't be read; trying again", "error", err)
			if !pause(ctx, time.Second) {
				return nil
			}
			continue
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// more has what waits looked at again.
func (r *Runs) more() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// begin starts a worker for each scope that has something to do and none at work. Where an environment is being
// taken away nothing else goes on.
func (r *Runs) begin(ctx context.Context, workers *sync.WaitGroup) error {
	waiting, err := r.next(ctx)
	if err != nil {
		return err
	}
	leaving, err := all[maru.Environment](ctx, r.store, kindLeaving, "")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range leaving {
		if w := r.working[e.Scope]; w == nil {
			r.work(ctx, workers, e.Scope, work{}, func(ctx context.Context) { r.takeAway(ctx, e) })
		} else if w.number != 0 {
			w.cancel(errCancelled)
		}
	}
	for _, run := range waiting {
		if r.working[run.Scope] == nil && len(r.working) < r.cfg.Parallel {
			r.work(ctx, workers, run.Scope, work{number: run.Number, branch: run.Branch}, func(ctx context.Context) { r.carryOut(ctx, run) })
		}
	}
	return nil
}

// work does something in a scope, where nothing else is done meanwhile. The caller holds the lock.
func (r *Runs) work(ctx context.Context, workers *sync.WaitGroup, scope maru.Scope, of work, do func(context.Context)) {
	working, cancel := context.WithCancelCause(ctx)
	of.cancel = cancel
	r.working[scope] = &of
	workers.Go(func() {
		do(working)
		cancel(nil)
		r.mu.Lock()
		delete(r.working, scope)
		r.mu.Unlock()
		r.more()
	})
}

// next gives, for each scope, the run to carry out: one that was begun, else the newest that is queued.
func (r *Runs) next(ctx context.Context) ([]maru.Run, error) {
	all, err := r.list(ctx, "")
	if err != nil {
		return nil, err
	}
	byScope := map[maru.Scope]int{}
	var chosen []maru.Run
	for _, run := range all { // by scope, oldest first
		if run.Phase.Final() || run.Phase == maru.RunWaiting {
			continue
		}
		i, known := byScope[run.Scope]
		switch {
		case !known:
			byScope[run.Scope] = len(chosen)
			chosen = append(chosen, run)
		case chosen[i].Phase == maru.RunQueued:
			chosen[i] = run
		}
	}
	return chosen, nil
}
