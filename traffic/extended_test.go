package traffic_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/marucloud/maru/traffic"
)

// echoing is a service that answers WebSocket, and refuses whom it does not like.
func echoing(t *testing.T) *instance {
	up := websocket.Upgrader{Subprotocols: []string{"chat"}}
	return startInstance(t, "a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(rw, "no", http.StatusForbidden)
			return
		}
		c, err := up.Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, append([]byte("you said "), p...)) != nil {
				return
			}
		}
	}))
}

// frame is a text of at most 125 bytes as a client sends it (RFC 6455, 5.2), masked with zeros.
func frame(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}

func said(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, 2+len(want))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, append([]byte{0x81, byte(len(want))}, want...)) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestWebSocketOverHTTP3 speaks WebSocket on a stream (RFC 9220), as often as one likes on a connection.
func TestWebSocketOverHTTP3(t *testing.T) {
	pc := listenUDP(t)
	w := quicWorld(t, pc, nil, "web.test")
	w.set(web(echoing(t)))
	conn, err := quic.DialAddr(t.Context(), pc.LocalAddr().String(), &tls.Config{RootCAs: w.roots, ServerName: "web.test", NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "") //nolint:errcheck // the test is over
	client := (&http3.Transport{}).NewClientConn(conn)
	begin := func(protocol, path string) (*http3.RequestStream, *http.Response) {
		t.Helper()
		s, err := client.OpenRequestStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest("CONNECT", "https://web.test"+path, http.NoBody)
		r.Proto = protocol
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Protocol", "chat")
		if err := s.SendRequestHeader(r); err != nil {
			t.Fatal(err)
		}
		res, err := s.ReadResponse()
		if err != nil {
			t.Fatal(err)
		}
		return s, res
	}
	for range 2 {
		s, res := begin("websocket", "/ws")
		if res.StatusCode != 200 || res.Header.Get("Sec-WebSocket-Protocol") != "chat" || res.Header.Get("Sec-WebSocket-Accept") != "" || res.Header.Get("Upgrade") != "" {
			t.Fatal(res.Status, res.Header)
		}
		for i := range 3 {
			if _, err := s.Write(frame(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			said(t, s, fmt.Sprint("you said ", i))
		}
		_ = s.Close()
		if rest, err := io.ReadAll(s); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	}
	if _, res := begin("websocket", "/no"); res.StatusCode != 403 {
		t.Error(res.Status)
	}
	if _, res := begin("connect-udp", "/ws"); res.StatusCode != 400 {
		t.Error(res.Status)
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}

// extendedTransport gives a client's side that sends extended CONNECT requests, which net/http's does not.
func extendedTransport(t *testing.T, w *secureWorld) http.RoundTripper {
	dial := func(ctx context.Context, _, _ string, cfg *tls.Config) (net.Conn, error) {
		return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.https)
	}
	//lint:ignore SA1019 its successor refuses the field :protocol
	tr := &http2.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, DialTLSContext: dial}
	//lint:ignore SA1019 as above
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// TestWebSocketOverHTTP2 does the same by HTTP/2 (RFC 8441).
func TestWebSocketOverHTTP2(t *testing.T) {
	w := newSecureWorld(t, false, func(*traffic.Config) {}, "web.test")
	w.set(web(echoing(t)))
	c := &http.Client{Transport: extendedTransport(t, w)}
	begin := func(protocol, path string) (*io.PipeWriter, *http.Response) {
		t.Helper()
		pr, pw := io.Pipe()
		r, _ := http.NewRequest("CONNECT", "https://web.test"+path, pr)
		r.Header.Set(":protocol", protocol)
		r.Header.Set("Sec-WebSocket-Protocol", "chat")
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return pw, res
	}
	ask(t, c, "https://web.test/no", nil) // the client knows by then that it may
	for range 2 {
		pw, res := begin("websocket", "/ws")
		if res.StatusCode != 200 || res.ProtoMajor != 2 || res.Header.Get("Sec-WebSocket-Protocol") != "chat" || res.Header.Get("Sec-WebSocket-Accept") != "" {
			t.Fatal(res.Status, res.Header)
		}
		for i := range 3 {
			if _, err := pw.Write(frame(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			said(t, res.Body, fmt.Sprint("you said ", i))
		}
		pw.Close()
		res.Body.Close()
	}
	for protocol, want := range map[string]int{"websocket": 403, "connect-udp": 400} {
		pw, res := begin(protocol, "/no")
		if res.StatusCode != want {
			t.Error(protocol, res.Status)
		}
		pw.Close()
		res.Body.Close()
	}
	eventually(t, "nothing in flight", func() bool { return w.Report().InFlight["a"] == 0 })
}
