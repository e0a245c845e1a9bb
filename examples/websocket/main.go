// Websocket is a room where everybody hears what everybody says. /echo says back to one alone.
package main

import (
	"context"
	_ "embed"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

//go:embed page.html
var page []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	r := &room{guests: map[chan string]bool{}}
	server := &http.Server{Addr: ":8080", Handler: r.handler(), ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(r.close)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	r.left.Wait()
}

type room struct {
	mu     sync.Mutex
	guests map[chan string]bool
	closed bool
	left   sync.WaitGroup
}

func (r *room) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /room", r.join)
	mux.HandleFunc("GET /echo", echo)
	return mux
}

var upgrader = websocket.Upgrader{HandshakeTimeout: 10 * time.Second}

func echo(w http.ResponseWriter, req *http.Request) {
	conn, err := upgrader.Upgrade(w, req, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		kind, text, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, text) != nil {
			return
		}
	}
}

// longest bounds what a guest may say at once, in bytes.
const longest = 4096

func (r *room) join(w http.ResponseWriter, req *http.Request) {
	conn, err := upgrader.Upgrade(w, req, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetReadLimit(longest)
	heard := make(chan string, 32)
	if !r.enter(heard) {
		return
	}
	go func() {
		defer r.leave(heard)
		for {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			r.say(string(text))
		}
	}()
	for text := range heard {
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if conn.WriteMessage(websocket.TextMessage, []byte(text)) != nil {
			return
		}
	}
	bye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "the room moves: come in again")
	_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
}

func (r *room) enter(heard chan string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.guests[heard] = true
	r.left.Add(1)
	return true
}

func (r *room) leave(heard chan string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.guests[heard] {
		delete(r.guests, heard)
		close(heard)
	}
	r.left.Done()
}

func (r *room) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for heard := range r.guests {
		select {
		case heard <- text:
		default: // does not listen: out
			delete(r.guests, heard)
			close(heard)
		}
	}
}

func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for heard := range r.guests {
		delete(r.guests, heard)
		close(heard)
	}
}
