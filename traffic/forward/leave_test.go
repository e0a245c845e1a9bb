package forward

import (
	"errors"
	"io"
	"testing"
)

// TestLeaverLetsGo closes a body while the client sends nothing. What the client sends then is the next
// attempt's.
func TestLeaverLetsGo(t *testing.T) {
	client, send := io.Pipe()
	left, begun := make(chan error), make(chan struct{}, 10)
	b := newReplay(readerFunc(func(p []byte) (int, error) {
		begun <- struct{}{}
		return client.Read(p)
	}))
	first := newLeaver(b.body())
	go func() {
		_, err := first.Read(make([]byte, 10))
		left <- err
	}()
	<-begun
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-left; !errors.Is(err, errBodyLeft) {
		t.Errorf("the reader that was left got %v", err)
	}
	if !b.rewind() {
		t.Fatal("there can be no further attempt")
	}
	go func() {
		_, _ = send.Write([]byte("message"))
		_ = send.Close()
	}()
	if got, err := io.ReadAll(newLeaver(b.body())); err != nil || string(got) != "message" {
		t.Errorf("the next attempt reads %q, %v", got, err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
