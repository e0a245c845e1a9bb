package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func enter(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial(strings.Replace(url, "http", "ws", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func hear(t *testing.T, conn *websocket.Conn, want string) {
	t.Helper()
	if _, text, err := conn.ReadMessage(); err != nil || string(text) != want {
		t.Fatalf("heard %q, %v", text, err)
	}
}

func TestRoom(t *testing.T) {
	r := &room{guests: map[chan string]bool{}}
	server := httptest.NewServer(r.handler())
	defer server.Close()
	ann, bob := enter(t, server.URL+"/room"), enter(t, server.URL+"/room")
	// Each hears itself, so it is in the room when it has.
	for _, guest := range []*websocket.Conn{ann, bob} {
		if err := guest.WriteMessage(websocket.TextMessage, []byte("here")); err != nil {
			t.Fatal(err)
		}
		hear(t, guest, "here")
	}
	r.close()
	for _, guest := range []*websocket.Conn{ann, bob} {
		for {
			_, _, err := guest.ReadMessage()
			if websocket.IsCloseError(err, websocket.CloseGoingAway) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		guest.Close()
	}
	r.left.Wait()
}

func TestEcho(t *testing.T) {
	server := httptest.NewServer((&room{}).handler())
	defer server.Close()
	conn := enter(t, server.URL+"/echo")
	if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, "hello")
}
