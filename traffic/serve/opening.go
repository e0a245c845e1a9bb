package serve

import (
	"container/list"
	"net"
	"sync"
	"time"
)

const (
	// opens is how long a handshake may take, and with what may come before it.
	opens = 10 * time.Second
	// mostOpening bounds how many connections are in their handshake at once. Each costs some 30 KiB, and
	// until it is done nobody knows who it is.
	mostOpening = 2048
)

// opening are the connections whose handshake is not done. When there are too many the one that takes longest
// is closed: clients that mean well need a few round trips, those that mean to fill the place up take their
// time.
type opening struct {
	most int

	mu  sync.Mutex
	all list.List // of net.Conn, by age
}

// enter counts a connection in, and gives what counts it out again.
func (o *opening) enter(c net.Conn) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all.Len() >= o.most {
		if oldest, ok := o.all.Remove(o.all.Front()).(net.Conn); ok {
			oldest.Close()
		}
	}
	e := o.all.PushBack(c)
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all.Remove(e)
	}
}

// close closes them all.
func (o *opening) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for e := o.all.Front(); e != nil; e = e.Next() {
		if c, ok := e.Value.(net.Conn); ok {
			c.Close()
		}
	}
}
