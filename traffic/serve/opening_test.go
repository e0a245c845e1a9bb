package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowHandshakesEnd: a handshake has its time, and no more.
func TestSlowHandshakesEnd(t *testing.T) {
	for name, says := range map[string]string{"silent": "", "slow": "\x16\x03\x01\x02\x00"} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{TLS: &tls.Config{}}, slog.New(slog.DiscardHandler))
			client, server := net.Pipe()
			began := time.Now()
			ended := false
			go s.TakeTLS(Conn{Conn: server, End: func() { ended = true }})
			go func() {
				for _, b := range []byte(says) {
					_, _ = client.Write([]byte{b})
					time.Sleep(time.Second)
				}
			}()
			if _, err := io.Copy(io.Discard, client); err != nil && !errors.Is(err, io.EOF) {
				t.Error(name, err)
			}
			synctest.Wait()
			if took := time.Since(began); took != opens || !ended {
				t.Errorf("%s: over after %s: %v", name, took, ended)
			}
		})
	}
}

// TestOldestHandshakeGoes: when there are too many the oldest makes room, and those that are done count no more.
func TestOldestHandshakeGoes(t *testing.T) {
	o := opening{most: 3}
	var clients []net.Conn
	var leaves []func()
	open := func() {
		client, server := net.Pipe()
		clients = append(clients, client)
		leaves = append(leaves, o.enter(server))
	}
	over := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
	for range 3 {
		open()
	}
	leaves[1]()
	open()
	for i, want := range []bool{false, false, false, false} {
		if got := over(clients[i]); got != want {
			t.Errorf("before: %d is over: %v", i, got)
		}
	}
	open()
	open()
	for i, want := range []bool{true, false, true, false, false, false} {
		if got := over(clients[i]); got != want {
			t.Errorf("%d is over: %v", i, got)
		}
	}
	leaves[0]() // again, of one that had to go
	leaves[3]()
	if o.all.Len() != 2 {
		t.Error(o.all.Len())
	}
	o.close()
	if !over(clients[4]) || !over(clients[5]) {
		t.Error("not all are closed")
	}
}

// TestDrainWaitsForNoHandshake: a server that ends does not wait for those who say nothing.
func TestDrainWaitsForNoHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{TLS: &tls.Config{}}, slog.New(slog.DiscardHandler))
		client, server := net.Pipe()
		defer client.Close()
		go s.TakeTLS(Conn{Conn: server, End: s.Hold()})
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.Drain(ctx, time.Second)
		if took := time.Since(began); took != time.Second {
			t.Error("took", took)
		}
	})
}
