package table

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// mostAwaited bounds how many callers are waited for at once.
const mostAwaited = 1024

// awaited are addresses that spoke before the control plane told whose they are: an instance may
// call out in its first millisecond.
type awaited struct {
	mu      sync.Mutex
	waiters map[netip.Addr][]chan *Endpoint
	count   int
}

func (a *awaited) arrived(e *Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range []netip.Addr{e.Addresses.V4, e.Addresses.V6} {
		for _, w := range a.waiters[addr] {
			w <- e
		}
		a.count -= len(a.waiters[addr])
		delete(a.waiters, addr)
	}
}

func (a *awaited) join(addr netip.Addr) (chan *Endpoint, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count >= mostAwaited {
		return nil, false
	}
	if a.waiters == nil {
		a.waiters = map[netip.Addr][]chan *Endpoint{}
	}
	w := make(chan *Endpoint, 1)
	a.waiters[addr] = append(a.waiters[addr], w)
	a.count++
	return w, true
}

func (a *awaited) leave(addr netip.Addr, w chan *Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, other := range a.waiters[addr] {
		if other == w {
			a.waiters[addr] = append(a.waiters[addr][:i:i], a.waiters[addr][i+1:]...)
			a.count--
		}
	}
	if len(a.waiters[addr]) == 0 {
		delete(a.waiters, addr)
	}
}

// Caller finds the instance that has the address.
func (t *Table) Caller(a netip.Addr) (*Endpoint, bool) { return t.callers.get(a.Unmap()) }

// AwaitCaller is Caller that waits up to patience for an address that nothing is known of yet.
func (t *Table) AwaitCaller(ctx context.Context, a netip.Addr, patience time.Duration) (*Endpoint, bool) {
	a = a.Unmap()
	if e, ok := t.callers.get(a); ok {
		return e, true
	}
	w, ok := t.awaiting.join(a)
	if !ok {
		return nil, false
	}
	defer t.awaiting.leave(a, w)
	if e, ok := t.callers.get(a); ok {
		return e, true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case e := <-w:
		return e, true
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, false
}
