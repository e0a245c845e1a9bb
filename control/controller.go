package control

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
)

// Controller keeps the apps of a store as they are wanted, on an engine. Its methods are safe for
// concurrent use. What asks or changes something waits until [Controller.Run] has read the store.
type Controller struct {
	cfg       Config
	store     maru.Store
	engine    maru.Engine
	publisher Publisher
	log       *slog.Logger

	view     *view
	apps     *queue[maru.Scope]
	traffic  *dirty
	settle   chan chan struct{} // asks for what is dirty to be published, and to be told
	backoff  sync.Map           // of time.Duration by maru.Scope
	deciding sync.Mutex         // held from looking at what all apps have until what one takes is stored
	index    *claimIndex
	events   chan maru.Event
	judges   *judges
	looping  map[string]bool // instances that end again and again, and of which that was told; of the goroutine that follows the engine
}

// New makes a controller. Nothing happens before [Controller.Run]. The error is of kind Invalid.
func New(cfg Config, store maru.Store, engine maru.Engine, publisher Publisher, log *slog.Logger) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Controller{
		cfg: cfg.withDefaults(), store: store, engine: engine, publisher: publisher, log: log,
		index: newClaimIndex(), apps: newQueue[maru.Scope](), traffic: newDirty(), settle: make(chan chan struct{}), events: make(chan maru.Event, 1024),
		judges: newJudges(), looping: map[string]bool{},
	}
	c.view = newView(c.apps.add, c.traffic.mark)
	return c, nil
}

// Run observes, plans and applies until ctx ends. It blocks, and joins all that it started. What runs
// on the engine goes on when it ends.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.followStore(ctx) })
	group.Go(func() error { return c.followEngine(ctx) })
	group.Go(func() error { return c.publish(ctx) })
	group.Go(func() error { return c.recordEvents(ctx) })
	group.Go(func() error { return c.clean(ctx) })
	group.Go(func() error { return c.tellVerdicts(ctx) })
	for range c.cfg.Workers {
		group.Go(func() error { return c.work(ctx) })
	}
	err := group.Wait()
	c.apps.stop()
	return err
}

// work plans for one app after another.
func (c *Controller) work(ctx context.Context) error {
	for {
		scope, ok := c.apps.next(ctx)
		if !ok {
			return nil
		}
		wake, err := c.reconcile(ctx, scope)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			delay := c.delay(scope)
			c.log.Warn("app could not be brought to its wanted state", "app", scope.String(), "error", err, "again", delay)
			c.apps.addAt(scope, time.Now().Add(delay))
		default:
			c.backoff.Delete(scope)
			if !wake.IsZero() {
				c.apps.addAt(scope, wake)
			}
		}
		c.apps.done(scope)
	}
}

// delay is how long to wait after one more error with an app.
func (c *Controller) delay(scope maru.Scope) time.Duration {
	delay := c.cfg.Retry
	if before, ok := c.backoff.Load(scope); ok {
		delay = min(2*before.(time.Duration), c.cfg.RetryMax) //nolint:forcetypeassert // only durations are stored
	}
	c.backoff.Store(scope, delay)
	return delay
}

// pause waits, and tells whether ctx goes on.
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
