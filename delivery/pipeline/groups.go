package pipeline

import (
	"context"
	"strings"
	"sync"

	"github.com/marucloud/maru"
)

// Groups are concurrency groups: of those with the same name one is at work and one waits. They are
// safe for concurrent use.
type Groups struct {
	mu     sync.Mutex
	groups map[string]*concurrency
}

// concurrency is a group that somebody is in.
type concurrency struct {
	atWork  *member
	waiting *member
}

type member struct {
	cancel func(why string)
	turn   chan error // gets nil when it is its turn, or why it won't be
}

// NewGroups makes groups that nobody is in.
func NewGroups() *Groups { return &Groups{groups: map[string]*concurrency{}} }

// Enter waits until nobody else of the group is at work. Whoever waited before is told Interrupted. With
// cancelInProgress the one at work is cancelled. leave must be called once.
func (g *Groups) Enter(ctx context.Context, name string, cancelInProgress bool, cancel func(why string)) (leave func(), err error) {
	name = strings.ToLower(name)
	me := &member{cancel: cancel, turn: make(chan error, 1)}
	g.mu.Lock()
	c := g.groups[name]
	if c == nil {
		c = &concurrency{}
		g.groups[name] = c
	}
	if c.atWork == nil {
		c.atWork = me
		me.turn <- nil
	} else {
		if c.waiting != nil {
			c.waiting.turn <- maru.Errorf(maru.Interrupted, "another one of its concurrency group came after it")
		}
		c.waiting = me
		if cancelInProgress {
			c.atWork.cancel("another one of its concurrency group came after it")
		}
	}
	g.mu.Unlock()
	select {
	case err := <-me.turn:
		if err != nil {
			return nil, err
		}
		return func() { g.leave(name, me) }, nil
	case <-ctx.Done():
		g.leave(name, me)
		return nil, context.Cause(ctx)
	}
}

// leave lets the one that waits have its turn.
func (g *Groups) leave(name string, me *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.groups[name]
	switch {
	case c == nil:
	case c.waiting == me:
		c.waiting = nil
	case c.atWork == me:
		c.atWork, c.waiting = c.waiting, nil
		if c.atWork != nil {
			c.atWork.turn <- nil
		} else {
			delete(g.groups, name)
		}
	}
}
