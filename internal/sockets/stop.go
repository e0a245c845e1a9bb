package sockets

import (
	"errors"
	"net"
	"sync"
	"time"
)

// StopListener accepts until it is stopped. Unlike Close, Stop leaves nothing accepted behind: once
// it returns, every connection that this process took from the socket has been given to the caller
// of Accept, and those that wait are left to the other processes that have the socket.
type StopListener struct {
	net.Listener
	mu      sync.Mutex // held while accepting
	stopped bool       // under mu
}

// NewStopListener wraps a TCP or unix listener.
func NewStopListener(listener net.Listener) *StopListener { return &StopListener{Listener: listener} }

// Accept gives the next connection, or net.ErrClosed after Stop.
func (l *StopListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil && l.deadlinePassed(err) {
		return nil, net.ErrClosed
	}
	return conn, err
}

func (l *StopListener) deadlinePassed(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Stop ends Accept. It does not close the socket.
func (l *StopListener) Stop() error {
	deadline, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if ok {
		if err := deadline.SetDeadline(time.Unix(1, 0)); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	return nil
}
