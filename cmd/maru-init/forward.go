package main

import (
	"io"
	"net"
	"strings"
	"sync"
)

// forward listens at each FROM of some FROM=TO and leads what comes there to TO; both are TCP's
// ADDRESS:PORT. It returns when all listen.
func forward(pairs []string) error {
	for _, pair := range pairs {
		from, to, _ := strings.Cut(pair, "=")
		l, err := net.Listen("tcp", from)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go lead(conn, to)
			}
		}()
	}
	return nil
}

// lead copies both ways until both sides have ended.
func lead(near net.Conn, to string) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			if c, ok := way[1].(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
		})
	}
	both.Wait()
}
