package http1

import (
	"sync"
	"time"
)

const (
	// idleFor is shorter than what common servers allow themselves (2 s and more): a connection that
	// the instance closes while a request is on its way costs a request that can't be sent again.
	// Connecting anew on the same machine costs next to nothing.
	idleFor  = 1500 * time.Millisecond
	mostIdle = 128
)

// Pool keeps the connections to one instance that carry nothing now.
type Pool struct {
	mu    sync.Mutex
	idle  []*Conn // the one used last is last
	timer *time.Timer
}

// Get takes the connection to a port that was used last, or gives nil.
func (p *Pool) Get(port uint16, now time.Time) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		c := p.idle[i]
		if c.port != port {
			continue
		}
		if now.Sub(c.idleSince) > idleFor {
			return nil // those before it are older
		}
		copy(p.idle[i:], p.idle[i+1:])
		p.idle[len(p.idle)-1] = nil
		p.idle = p.idle[:len(p.idle)-1]
		return c
	}
	return nil
}

func (p *Pool) put(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == mostIdle {
		_ = c.conn.Close()
		return
	}
	p.idle = append(p.idle, c)
	switch {
	case len(p.idle) > 1:
	case p.timer == nil:
		p.timer = time.AfterFunc(idleFor, p.expire)
	default:
		p.timer.Reset(idleFor)
	}
}

// expire closes what was not used for long enough.
func (p *Pool) expire() {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= idleFor {
		_ = p.idle[n].conn.Close()
		n++
	}
	p.idle = append(p.idle[:0], p.idle[n:]...)
	clear(p.idle[len(p.idle) : len(p.idle)+n])
	if len(p.idle) > 0 {
		p.timer.Reset(p.idle[0].idleSince.Add(idleFor).Sub(now))
	}
}

// CloseIdle closes what carries nothing.
func (p *Pool) CloseIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.conn.Close()
	}
	clear(p.idle)
	p.idle = p.idle[:0]
	if p.timer != nil {
		p.timer.Stop()
	}
}
