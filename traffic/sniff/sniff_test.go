package sniff

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		start string
		want  Protocol
	}{
		{"", Unsure},
		{"G", Unsure},
		{"GET", Unsure},
		{"GET ", Unsure},
		{"GET /", HTTP1},
		{"OPTIONS *", HTTP1},
		{"M-SEARCH *", HTTP1},
		{"CONNECT [::1]:80", HTTP1},
		{"GET http://x/", HTTP1},
		{"PRI", Unsure},
		{"PRI ", Unsure},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Unsure},
		{preface, HTTP2},
		{preface + "more", HTTP2},
		{"PRI /", HTTP1},
		{"\x16\x03\x01", Other}, // TLS
		{"get /", Other},
		{" GET /", Other},
		{"PING\r\n", Other},
		{"*1\r\n$4\r\nPING", Other},
		{"GET \x00", Other},
		{strings.Repeat("A", 100), Other},
	} {
		if got := Classify([]byte(c.start)); got != c.want {
			t.Errorf("%q: %d, want %d", c.start, got, c.want)
		}
	}
}

// FuzzClassify: an answer never changes when more bytes come, and what Go's HTTP server takes for a
// request with a usual method is never sent past it.
func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte(preface))
	f.Add([]byte("\x16\x03\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := Classify(data)
		for n := range data {
			if p := Classify(data[:n]); p != Unsure && p != whole {
				t.Fatalf("%q is %d, but %q %d", data[:n], p, data, whole)
			}
		}
		if len(data) > 64 && whole == Unsure {
			t.Fatal("unsure of 64 bytes")
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(data))))
		if err != nil || strings.Trim(r.Method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || r.Method == "PRI" || len(r.Method) > 20 {
			return
		}
		if whole != HTTP1 {
			t.Fatalf("%s %s is %d", r.Method, r.RequestURI, whole)
		}
	})
}

func TestReadGivesWhatItRead(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", preface, "\x16\x03\x01", "GE"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				for i := range len(text) { // byte by byte
					_, _ = client.Write([]byte{text[i]})
				}
				time.Sleep(time.Minute) // longer than the other side's patience; a closed pipe takes no deadlines
				client.Close()
			}()
			first, _, err := Read(server, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(server)
			if string(first)+string(rest) != text || err != nil {
				t.Fatalf("%q, then %q %v", first, rest, err)
			}
		})
	}
}

func TestReadOfTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		began := time.Now()
		first, p, err := Read(server, time.Second)
		if err != nil || len(first) > 0 || p != HTTP1 || time.Since(began) != time.Second {
			t.Fatal(p, err)
		}
		server.Close()
		client.Close()
		if _, _, err := Read(server, time.Second); err == nil {
			t.Fatal("closed connection")
		}
	})
}
