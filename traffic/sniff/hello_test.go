package sniff

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzServerName: whatever a connection begins with, what was read of it is read again, and nothing is sent.
func FuzzServerName(f *testing.F) {
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: "a.test"}).Handshake()
	}()
	hello := make([]byte, 4096)
	n, err := server.Read(hello)
	if err != nil {
		f.Fatal(err)
	}
	client.Close()
	f.Add(hello[:n])
	f.Add(hello[:n/2])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &memory{data: bytes.NewReader(data)}
		name, first, err := ServerName(c, time.Second)
		if err != nil && name != "" || c.wrote > 0 {
			t.Fatalf("%q %v, %d bytes sent", name, err, c.wrote)
		}
		if again, _ := io.ReadAll(Again(c, first)); !bytes.Equal(again, data) {
			t.Fatalf("%d bytes are read again, of %d", len(again), len(data))
		}
		if bytes.Equal(data, hello[:n]) && name != "a.test" {
			t.Fatalf("%q %v", name, err)
		}
	})
}

// memory is a connection out of memory.
type memory struct {
	net.Conn
	data  *bytes.Reader
	wrote int
}

func (m *memory) Read(p []byte) (int, error)       { return m.data.Read(p) }
func (m *memory) Write(p []byte) (int, error)      { m.wrote += len(p); return len(p), nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) Close() error                     { return nil }
