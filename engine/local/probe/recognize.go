package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"
)

// What Recognize finds.
const (
	HTTP1 = "http"
	H2C   = "h2c"
	TCP   = "tcp"
)

const (
	recognizeTimeout = 300 * time.Millisecond
	preface          = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Recognize finds out which protocol a port speaks, with at most two connections and nothing that
// changes anything: HTTP/2 with prior knowledge, else HTTP/1.1, else something else. A server that
// speaks first or says nothing is something else.
func Recognize(ctx context.Context, at netip.AddrPort) string {
	switch answer := exchange(ctx, at, []byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")); {
	case isSettings(answer):
		return H2C
	case isHTTP1(answer):
		return HTTP1 // it took the preface for a bad request
	}
	if isHTTP1(exchange(ctx, at, []byte("OPTIONS * HTTP/1.1\r\nHost: "+at.String()+"\r\nUser-Agent: maru-probe\r\nConnection: close\r\n\r\n"))) {
		return HTTP1
	}
	return TCP
}

// exchange sends the request and gives the beginning of the answer; nothing if the server spoke first.
func exchange(ctx context.Context, at netip.AddrPort, request []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, recognizeTimeout) // silence is an answer: it is no web server
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return nil
	}
	answer := make([]byte, 9)
	n, _ := io.ReadFull(bufio.NewReader(conn), answer) // what came before an error is the answer
	return answer[:n]
}

func isHTTP1(answer []byte) bool {
	return bytes.HasPrefix(answer, []byte("HTTP/1.")) || bytes.HasPrefix(answer, []byte("HTTP/0.9"))
}

// isSettings tells whether the answer begins with the frame that every HTTP/2 server sends first.
func isSettings(answer []byte) bool {
	const frameSettings = 4
	if len(answer) < 9 || answer[3] != frameSettings {
		return false
	}
	length := binary.BigEndian.Uint32(append([]byte{0}, answer[:3]...))
	stream := binary.BigEndian.Uint32(answer[5:9])
	return length%6 == 0 && length <= 1<<14 && stream == 0
}
