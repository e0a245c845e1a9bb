package follow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/delivery/source"
	"github.com/marucloud/maru/plan"
)

// Config tunes a Follower. The zero value of a field is its default.
type Config struct {
	Every   time.Duration // between two looks at a repository that does not say; default 1 min
	Timeout time.Duration // of a request to a forge's API; default 20 s
	Client  *http.Client  // for those; default one that follows no redirects
	Retry   time.Duration // first wait after a state could not be told; default 2 s
}

func (c Config) withDefaults() Config {
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	if c.Timeout <= 0 {
		c.Timeout = 20 * time.Second
	}
	if c.Retry <= 0 {
		c.Retry = 2 * time.Second
	}
	if c.Client == nil {
		c.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return c
}

// Repositories have the commits.
type Repositories interface {
	Fetch(ctx context.Context, id maru.RepositoryID, from source.Remote, follow func(branch string) bool) ([]maru.RefUpdate, error)
	Forward(ctx context.Context, id maru.RepositoryID, u maru.RefUpdate) (bool, error)
	Move(ctx context.Context, id maru.RepositoryID, updates []maru.RefUpdate) error
}

// Secret gives the value of an app's secret in production; NotFound.
type Secret func(ctx context.Context, scope maru.Scope, name string) ([]byte, error)

// Follower follows repositories. It is safe for concurrent use.
type Follower struct {
	cfg          Config
	store        maru.Store
	repositories Repositories
	receiver     source.Receiver
	secret       Secret
	log          *slog.Logger

	wake chan struct{} // what is followed changed

	mu    sync.Mutex
	looks map[maru.RepositoryID]*look
	seen  map[string]time.Time // deliveries of webhooks
}

// look is how following a repository goes in this process.
type look struct {
	now    chan struct{} // look at once
	at     time.Time
	failed error
}

// New makes a follower. Nothing is fetched before [Follower.Run].
func New(cfg Config, store maru.Store, repositories Repositories, receiver source.Receiver, secret Secret, log *slog.Logger) *Follower {
	return &Follower{
		cfg: cfg.withDefaults(), store: store, repositories: repositories, receiver: receiver, secret: secret, log: log,
		wake: make(chan struct{}, 1), looks: map[maru.RepositoryID]*look{}, seen: map[string]time.Time{},
	}
}

const kindFollow = "follow" // PROJECT/APP: maru.Following

func followKey(id maru.RepositoryID) maru.Key { return maru.Key{Kind: kindFollow, Name: id.String()} }

// Limits of how often a repository is looked at.
const (
	leastEvery = 5 * time.Second
	mostEvery  = 24 * time.Hour
)

// Follow has a repository followed from now on, in the place of another one. Errors: Invalid.
func (f *Follower) Follow(ctx context.Context, to maru.Following) (maru.Following, error) {
	if err := to.ID.Validate(); err != nil {
		return to, err
	}
	if err := source.CheckURL(to.URL); err != nil {
		return to, err
	}
	if to.Every == 0 {
		to.Every = f.cfg.Every
	}
	if to.Every < leastEvery || to.Every > mostEvery {
		return to, maru.Errorf(maru.Invalid, "it can't be looked for news every %s: at least %s and at most %s", to.Every, leastEvery, mostEvery)
	}
	for _, name := range []string{to.Credentials, to.Webhook} {
		if name == "" {
			continue
		}
		if _, err := f.value(ctx, to.ID, name); err != nil {
			return to, err
		}
	}
	var err error
	if to.Forge, to.API, err = forgeOf(to); err != nil {
		return to, err
	}
	to.Since = time.Now().UTC()
	if _, err := f.store.Commit(ctx, maru.Change{Key: followKey(to.ID), Expect: maru.Any, Data: maru.Raw(to)}); err != nil {
		return to, err
	}
	f.changed()
	return to, nil
}

// value gives the value of a secret.
func (f *Follower) value(ctx context.Context, id maru.RepositoryID, name string) (string, error) {
	value, err := f.secret(ctx, id.In(maru.DefaultEnvironment), name)
	if maru.KindOf(err) == maru.NotFound {
		return "", maru.WithHint(maru.Errorf(maru.Invalid, "secret %q has no value in %s", name, maru.DefaultEnvironment),
			fmt.Sprintf("set it first: maru secret set %s --app %s", name, id.App))
	}
	return strings.TrimSpace(string(value)), err
}

// Unfollow ends that; NotFound. What was fetched stays.
func (f *Follower) Unfollow(ctx context.Context, id maru.RepositoryID) error {
	object, err := f.store.Get(ctx, followKey(id))
	if maru.KindOf(err) == maru.NotFound {
		return maru.Errorf(maru.NotFound, "%s follows no repository", id.App)
	}
	if err != nil {
		return err
	}
	_, err = f.store.Commit(ctx, maru.Change{Key: object.Key, Expect: object.Revision})
	f.changed()
	return err
}

// Following tells how following a repository goes; NotFound.
func (f *Follower) Following(ctx context.Context, id maru.RepositoryID) (maru.FollowingStatus, error) {
	to, err := load[maru.Following](ctx, f.store, followKey(id))
	if err != nil {
		return maru.FollowingStatus{}, err
	}
	status := maru.FollowingStatus{Following: to}
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.looks[id]; l != nil {
		status.Looked = l.at
		if l.failed != nil {
			status.Error = l.failed.Error()
		}
	}
	return status, nil
}

// changed has what is followed read again.
func (f *Follower) changed() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { f.report(ctx) })
	cancels := map[maru.RepositoryID]context.CancelFunc{}
	kept := map[maru.RepositoryID]string{}
	for {
		following, err := list[maru.Following](ctx, f.store, kindFollow)
		if err != nil && ctx.Err() == nil {
			f.log.Error("what is followed can't be read; trying again", "error", err)
			if !pause(ctx, time.Second) {
				return nil
			}
			continue
		}
		there := map[maru.RepositoryID]bool{}
		for _, to := range following {
			there[to.ID] = true
			if text := string(maru.Raw(to)); kept[to.ID] != text {
				if cancel := cancels[to.ID]; cancel != nil {
					cancel()
				}
				one, cancel := context.WithCancel(ctx)
				cancels[to.ID], kept[to.ID] = cancel, text
				l := &look{now: make(chan struct{}, 1)}
				f.mu.Lock()
				f.looks[to.ID] = l
				f.mu.Unlock()
				working.Go(func() { f.follow(one, to, l) })
			}
		}
		for id, cancel := range cancels {
			if !there[id] {
				cancel()
				delete(cancels, id)
				delete(kept, id)
			}
		}
		select {
		case <-ctx.Done():
			for _, cancel := range cancels {
				cancel()
			}
			return nil
		case <-f.wake:
		}
	}
}

// follow looks at one repository again and again.
func (f *Follower) follow(ctx context.Context, to maru.Following, l *look) {
	for ctx.Err() == nil {
		err := f.Look(ctx, to)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		fresh := err != nil && (l.failed == nil || l.failed.Error() != err.Error())
		l.at, l.failed = time.Now().UTC(), err
		f.mu.Unlock()
		if fresh {
			f.log.Warn("a repository can't be followed", "app", to.ID.String(), "url", to.URL, "error", err)
		}
		timer := time.NewTimer(to.Every)
		select {
		case <-timer.C:
		case <-l.now:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// by is who does what a followed repository asks for.
func by(to maru.Following) maru.Token {
	host := "elsewhere"
	if u, err := url.Parse(to.URL); err == nil {
		host = u.Hostname()
	}
	return maru.Token{ID: tokenID, Name: host, Role: maru.RoleDeploy, Scope: maru.Scope{Project: to.ID.Project, App: to.ID.App}, By: to.By}
}

// tokenID is that of no token: pushes with it are the follower's own.
const tokenID = "follow"

// Look fetches what is new, and has it go the way of a push.
func (f *Follower) Look(ctx context.Context, to maru.Following) error {
	remote := source.Remote{URL: to.URL}
	if to.Credentials != "" {
		value, err := f.value(ctx, to.ID, to.Credentials)
		if err != nil {
			return err
		}
		remote.User, remote.Password = credentials(to.Forge, value)
	}
	updates, err := f.repositories.Fetch(ctx, to.ID, remote, func(branch string) bool { return plan.Follows(branch, to.Branches) })
	if err != nil || len(updates) == 0 {
		return err
	}
	push := maru.Push{ID: rand.Text(), Repository: to.ID, Updates: updates, By: by(to)}
	admitted, err := f.receiver.Admit(ctx, push) // what is unwanted waits for approval, as its run is held back
	if err != nil {
		return err
	}
	var refused []error
	var moved []maru.RefUpdate
	for _, u := range updates {
		if slices.Contains(admitted.Protected, u.Ref) {
			forward, err := f.repositories.Forward(ctx, to.ID, u)
			if err != nil {
				refused = append(refused, err)
				continue
			}
			if !forward {
				refused = append(refused, maru.WithHint(maru.Errorf(maru.Denied, "%s was rewound or deleted there, and is protected here", strings.TrimPrefix(u.Ref, "refs/heads/")),
					"push what follows from its commit here"))
				continue
			}
		}
		moved = append(moved, u)
	}
	push.Updates = moved
	// From here on it is done to the end: what was moved is told.
	ctx = context.WithoutCancel(ctx)
	if len(moved) > 0 {
		if err := f.repositories.Move(ctx, to.ID, moved); err != nil {
			push.Updates = nil
			refused = append(refused, err)
		}
	}
	if _, err := f.receiver.Received(ctx, push); err != nil {
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// Gate keeps people's pushes from a repository that follows another: they would be undone.
type Gate struct {
	source.Receiver
	Follower *Follower
}

// Admit implements [source.Receiver].
func (g Gate) Admit(ctx context.Context, push maru.Push) (source.Admission, error) {
	to, err := load[maru.Following](ctx, g.Follower.store, followKey(push.Repository))
	if err == nil {
		return source.Admission{}, maru.WithHint(maru.Errorf(maru.Denied, "%s follows %s", push.Repository.App, to.URL), "push there, or end that: maru repo unfollow")
	}
	if maru.KindOf(err) != maru.NotFound {
		return source.Admission{}, err
	}
	return g.Receiver.Admit(ctx, push)
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
