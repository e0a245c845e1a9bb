package http1

import (
	"testing"

	"github.com/marucloud/maru/traffic/message"
)

const browser = "GET /shop/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n"

func BenchmarkParseRequest(b *testing.B) {
	header := []byte(browser)
	var r message.Request
	b.SetBytes(int64(len(header)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseRequest(header, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseResponse(b *testing.B) {
	header := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 28 Nov 2026 14:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n")
	var r message.Response
	b.SetBytes(int64(len(header)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseResponse(header, "GET", &r); err != nil {
			b.Fatal(err)
		}
	}
}

// TestParsingAllocatesNothing: in the steady state.
func TestParsingAllocatesNothing(t *testing.T) {
	header := []byte(browser)
	var r message.Request
	if n := testing.AllocsPerRun(100, func() {
		if _, err := parseRequest(header, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
