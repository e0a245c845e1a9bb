package http2

import (
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// cases are what RFC 9113 and RFC 7541 say of what a client may not do, or may, by section. Each is done on
// a connection of its own. What comes of it is a status, or "RESET code" of stream 1, or "GOAWAY code".
var cases = []struct {
	section, name string
	do            func(p *peer)
	want          string
}{
	{"4.1", "a frame of a type that nobody knows", func(p *peer) { p.frame(0x16, 0, 0, "12345678"); p.get(1, "/") }, "200"},
	{"4.1", "flags that nobody knows", func(p *peer) { p.frame(xhttp2.FramePing, 0xfe, 0, "12345678"); p.get(1, "/") }, "200"},
	{"4.1", "the reserved bit of a stream", func(p *peer) { p.frame(xhttp2.FramePing, 0, 1<<31, "12345678"); p.get(1, "/") }, "200"},
	{"4.2", "data of the largest size", func(p *peer) { p.post(1, "/"); p.frame(xhttp2.FrameData, 1, 1, strings.Repeat("a", 16384)) }, "200"},
	{"4.2", "data of a larger size", func(p *peer) { p.post(1, "/"); p.frame(xhttp2.FrameData, 1, 1, strings.Repeat("a", 16385)) }, "GOAWAY FRAME_SIZE_ERROR"},
	{"4.2", "a header of a larger size", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, strings.Repeat("a", 16385)) }, "GOAWAY FRAME_SIZE_ERROR"},
	{"4.3", "a header that can't be decompressed", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, "\x82\x84\x86\xff\xff\xff\xff\xff\xff\xff") }, "GOAWAY COMPRESSION_ERROR"},
	{"4.3", "a header that is cut short", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, "\x82\x84\x86\x41\x0f") }, "GOAWAY COMPRESSION_ERROR"},
	{"4.3", "a priority between a header's parts", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 1, 1, p.block(request("GET", "/")...))
		p.frame(xhttp2.FramePriority, 0, 1, "\x00\x00\x00\x00\xff")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"4.3", "a header between another's parts", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 1, 1, p.block(request("GET", "/")...))
		p.get(3, "/")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "idle: data", func(p *peer) { p.frame(xhttp2.FrameData, 1, 1, "test") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "idle: a reset", func(p *peer) { p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "idle: a window", func(p *peer) { p.frame(xhttp2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x64") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "idle: a header that goes on", func(p *peer) { p.frame(xhttp2.FrameContinuation, 4, 1, p.block(request("GET", "/")...)) }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "half-closed: data", func(p *peer) { p.get(1, "/slow"); p.frame(xhttp2.FrameData, 1, 1, "test") }, "RESET STREAM_CLOSED"},
	{"5.1", "half-closed: a header", func(p *peer) { p.get(1, "/slow"); p.get(1, "/") }, "RESET STREAM_CLOSED"},
	{"5.1", "half-closed: a header that goes on", func(p *peer) {
		p.get(1, "/slow")
		p.frame(xhttp2.FrameContinuation, 4, 1, p.block(request("GET", "/")...))
	}, "GOAWAY PROTOCOL_ERROR"},
	{"5.1", "reset: data", func(p *peer) {
		p.post(1, "/slow")
		p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08")
		p.frame(xhttp2.FrameData, 1, 1, "test")
	}, "RESET STREAM_CLOSED"},
	{"5.1", "reset: a header", func(p *peer) {
		p.post(1, "/slow")
		p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08")
		p.get(1, "/")
	}, "GOAWAY STREAM_CLOSED"},
	{"5.1", "reset: priority, window and reset", func(p *peer) {
		p.post(1, "/slow")
		p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08")
		p.frame(xhttp2.FramePriority, 0, 1, "\x00\x00\x00\x00\xff")
		p.frame(xhttp2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x64")
		p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x00\x08")
		p.well(3)
		p.frame(xhttp2.FrameData, 1, 1, "test")
	}, "RESET STREAM_CLOSED"},
	{"5.1", "closed: data", func(p *peer) { p.well(1); p.frame(xhttp2.FrameData, 1, 1, "test") }, "RESET STREAM_CLOSED"},
	{"5.1", "closed: a header", func(p *peer) { p.well(1); p.get(1, "/") }, "GOAWAY STREAM_CLOSED"},
	{"5.1", "closed: a header that goes on", func(p *peer) {
		p.well(1)
		p.frame(xhttp2.FrameContinuation, 4, 1, p.block(request("GET", "/")...))
	}, "GOAWAY PROTOCOL_ERROR"},
	{"5.1.1", "an even number", func(p *peer) { p.get(2, "/") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1.1", "a lower number", func(p *peer) { p.get(5, "/slow"); p.get(3, "/") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.1.2", "one stream too many", func(p *peer) {
		for id := uint32(3); id <= 2*streams+1; id += 2 {
			p.get(id, "/slow")
		}
		p.get(2*streams+3, "/")
		if got := p.verdict(2*streams + 3); got != "RESET REFUSED_STREAM" {
			p.t.Error(got)
		}
		p.frame(xhttp2.FrameData, 0, 1, "") // of one that was passed over, and is closed by that
	}, "RESET STREAM_CLOSED"},
	{"5.3.1", "a header that depends on its stream", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5|xhttp2.FlagHeadersPriority, 1, "\x00\x00\x00\x01\xff"+p.block(request("GET", "/")...))
	}, "RESET PROTOCOL_ERROR"},
	{"5.3.1", "a priority that depends on its stream", func(p *peer) { p.frame(xhttp2.FramePriority, 0, 1, "\x00\x00\x00\x01\xff") }, "GOAWAY PROTOCOL_ERROR"},
	{"5.5", "an unknown frame between a header's parts", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 1, 1, p.block(request("GET", "/")...))
		p.frame(0x16, 0, 0, "12345678")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"6.1", "padding", func(p *peer) { p.post(1, "/"); p.frame(xhttp2.FrameData, 9, 1, "\x06test\x00\x00\x00\x00\x00\x00") }, "200"},
	{"6.1", "data of no stream", func(p *peer) { p.frame(xhttp2.FrameData, 1, 0, "test") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.1", "more padding than data", func(p *peer) { p.post(1, "/"); p.frame(xhttp2.FrameData, 9, 1, "\x06test") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.1", "padding without its length", func(p *peer) { p.post(1, "/"); p.frame(xhttp2.FrameData, 9, 1, "") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.2", "padding and priority", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 0x2d, 1, "\x03\x80\x00\x00\x14\x0a"+p.block(request("GET", "/")...)+"\x00\x00\x00")
	}, "200"},
	{"6.2", "a header of no stream", func(p *peer) { p.get(0, "/") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.2", "more padding than header", func(p *peer) { p.frame(xhttp2.FrameHeaders, 13, 1, "\xff"+p.block(request("GET", "/")...)) }, "GOAWAY PROTOCOL_ERROR"},
	{"6.2", "a header without its priority", func(p *peer) { p.frame(xhttp2.FrameHeaders, 0x25, 1, "\x00\x00") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.3", "a priority of no stream", func(p *peer) { p.frame(xhttp2.FramePriority, 0, 0, "\x80\x00\x00\x01\x0a") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.3", "a priority of another size", func(p *peer) { p.post(1, "/slow"); p.frame(xhttp2.FramePriority, 0, 1, "\x80\x00\x00\x01") }, "RESET FRAME_SIZE_ERROR"},
	{"6.4", "a reset of no stream", func(p *peer) { p.frame(xhttp2.FrameRSTStream, 0, 0, "\x00\x00\x00\x08") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.4", "a reset of another size", func(p *peer) { p.post(1, "/slow"); p.frame(xhttp2.FrameRSTStream, 0, 1, "\x00\x00\x08") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.5", "an acknowledgement with settings", func(p *peer) { p.frame(xhttp2.FrameSettings, 1, 0, "\x00\x00\x00\x00\x00\x00") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.5", "settings of a stream", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 1, "\x00\x03\x00\x00\x00\x64") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.5", "settings of another size", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x03\x00") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.5.2", "push that is neither on nor off", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x02\x00\x00\x00\x02") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.5.2", "too large a window", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x04\x80\x00\x00\x00") }, "GOAWAY FLOW_CONTROL_ERROR"},
	{"6.5.2", "too small a frame", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x3f\xff") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.5.2", "too large a frame", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x05\x01\x00\x00\x00") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.5.2", "a setting that nobody knows", func(p *peer) { p.frame(xhttp2.FrameSettings, 0, 0, "\x00\xff\x00\x00\x00\x01"); p.get(1, "/") }, "200"},
	{"6.5.3", "the last of two values counts", func(p *peer) {
		p.frame(xhttp2.FrameSettings, 0, 0, "\x00\x04\x00\x00\x00\x01\x00\x04\x00\x00\xff\xff")
		p.get(1, "/")
	}, "200"},
	{"6.6", "a push", func(p *peer) {
		p.frame(xhttp2.FramePushPromise, 4, 1, "\x00\x00\x00\x02"+p.block(request("GET", "/")...))
	}, "GOAWAY PROTOCOL_ERROR"},
	{"6.7", "a ping's acknowledgement that nobody asked for", func(p *peer) { p.frame(xhttp2.FramePing, 1, 0, "invalid!"); p.get(1, "/") }, "200"},
	{"6.7", "a ping of a stream", func(p *peer) { p.frame(xhttp2.FramePing, 0, 1, "12345678") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.7", "a ping of another size", func(p *peer) { p.frame(xhttp2.FramePing, 0, 0, "123456") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.8", "an end of a stream by the connection's", func(p *peer) { p.frame(xhttp2.FrameGoAway, 0, 1, "\x00\x00\x00\x00\x00\x00\x00\x00") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.9", "a window of nothing", func(p *peer) { p.frame(xhttp2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00") }, "GOAWAY PROTOCOL_ERROR"},
	{"6.9", "a stream's window of nothing", func(p *peer) { p.post(1, "/slow"); p.frame(xhttp2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00") }, "RESET PROTOCOL_ERROR"},
	{"6.9", "a window of another size", func(p *peer) { p.frame(xhttp2.FrameWindowUpdate, 0, 0, "\x00\x00\x01") }, "GOAWAY FRAME_SIZE_ERROR"},
	{"6.9.1", "too large a window", func(p *peer) {
		p.frame(xhttp2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff")
		p.frame(xhttp2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff")
	}, "GOAWAY FLOW_CONTROL_ERROR"},
	{"6.9.1", "too large a window of a stream", func(p *peer) {
		p.post(1, "/slow")
		p.frame(xhttp2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff")
	}, "RESET FLOW_CONTROL_ERROR"},
	{"6.9.1", "more data than the stream's window", func(p *peer) {
		p.post(1, "/slow")
		for range 33 {
			p.frame(xhttp2.FrameData, 0, 1, strings.Repeat("a", 16384))
		}
	}, "RESET FLOW_CONTROL_ERROR"},
	{"6.9.1", "more data than the connection's window", func(p *peer) {
		for id := uint32(1); id <= 5; id += 2 {
			p.post(id, "/slow")
			for range 32 {
				p.frame(xhttp2.FrameData, 0, id, strings.Repeat("a", 16384))
			}
		}
	}, "GOAWAY FLOW_CONTROL_ERROR"},
	{"6.10", "a header in three parts", func(p *peer) {
		b := p.block(request("GET", "/", "x-a", "b")...)
		p.frame(xhttp2.FrameHeaders, 1, 1, b[:3])
		p.frame(xhttp2.FrameContinuation, 0, 1, b[3:7])
		p.frame(xhttp2.FrameContinuation, 4, 1, b[7:])
	}, "200"},
	{"6.10", "more parts than there are", func(p *peer) {
		p.get(1, "/slow")
		p.frame(xhttp2.FrameContinuation, 4, 1, "")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"6.10", "data instead of the next part", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 0, 1, p.block(request("POST", "/")...))
		p.frame(xhttp2.FrameData, 1, 1, "test")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"6.10", "a part of another stream's", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 1, 1, p.block(request("GET", "/")...))
		p.frame(xhttp2.FrameContinuation, 4, 3, "")
	}, "GOAWAY PROTOCOL_ERROR"},
	{"8.1", "a second header that does not end the stream", func(p *peer) {
		p.post(1, "/")
		p.frame(xhttp2.FrameHeaders, 4, 1, p.block("x-a", "b"))
	}, "RESET PROTOCOL_ERROR"},
	{"8.1", "a pseudo-header field in a trailer", func(p *peer) {
		p.post(1, "/")
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET"))
	}, "RESET PROTOCOL_ERROR"},
	{"8.1", "a trailer", func(p *peer) {
		p.post(1, "/")
		p.frame(xhttp2.FrameData, 0, 1, "test")
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block("x-a", "b"))
	}, "200"},
	{"8.1.1", "less than the length", func(p *peer) { p.post(1, "/", "content-length", "5"); p.frame(xhttp2.FrameData, 1, 1, "test") }, "RESET PROTOCOL_ERROR"},
	{"8.1.1", "more than the length", func(p *peer) {
		p.post(1, "/", "content-length", "5")
		p.frame(xhttp2.FrameData, 0, 1, "test")
		p.frame(xhttp2.FrameData, 1, 1, "test")
	}, "RESET PROTOCOL_ERROR"},
	{"8.1.1", "a length without a body", func(p *peer) { p.get(1, "/", "content-length", "5") }, "RESET PROTOCOL_ERROR"},
	{"8.1.1", "two lengths", func(p *peer) { p.post(1, "/", "content-length", "4", "content-length", "4") }, "RESET PROTOCOL_ERROR"},
	{"8.1.1", "a length that is no number", func(p *peer) { p.post(1, "/", "content-length", "+4") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "a capital in a name", func(p *peer) { p.get(1, "/", "X-A", "b") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "a space before a value", func(p *peer) { p.get(1, "/", "x-a", " b") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "a line end in a value", func(p *peer) { p.get(1, "/", "x-a", "b\r\nx-c: d") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "a zero in a value", func(p *peer) { p.get(1, "/", "x-a", "b\x00") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "a colon in a name", func(p *peer) { p.get(1, "/", "x:a", "b") }, "RESET PROTOCOL_ERROR"},
	{"8.2", "no name", func(p *peer) { p.get(1, "/", "", "b") }, "RESET PROTOCOL_ERROR"},
	{"8.2.2", "connection", func(p *peer) { p.get(1, "/", "connection", "keep-alive") }, "RESET PROTOCOL_ERROR"},
	{"8.2.2", "transfer-encoding", func(p *peer) { p.post(1, "/", "transfer-encoding", "chunked") }, "RESET PROTOCOL_ERROR"},
	{"8.2.2", "upgrade", func(p *peer) { p.get(1, "/", "upgrade", "h2c") }, "RESET PROTOCOL_ERROR"},
	{"8.2.2", "te of something else", func(p *peer) { p.get(1, "/", "te", "trailers, deflate;q=0.5") }, "RESET PROTOCOL_ERROR"},
	{"8.2.2", "te", func(p *peer) { p.get(1, "/", "te", "trailers") }, "200"},
	{"8.3", "a pseudo-header field that nobody knows", func(p *peer) { p.get(1, "/", ":test", "ok") }, "RESET PROTOCOL_ERROR"},
	{"8.3", "one of answers", func(p *peer) { p.get(1, "/", ":status", "200") }, "RESET PROTOCOL_ERROR"},
	{"8.3", "one behind others", func(p *peer) { p.get(1, "/", "x-a", "b", ":path", "/") }, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "no path", func(p *peer) { p.get(1, "") }, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "a path without a slash", func(p *peer) { p.get(1, "x") }, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "a path with a space", func(p *peer) { p.get(1, "/ HTTP/1.1") }, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "no method", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":scheme", "http", ":path", "/", ":authority", "a"))
	}, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "no scheme", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET", ":path", "/", ":authority", "a"))
	}, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "another scheme", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET", ":scheme", "ftp", ":path", "/", ":authority", "a"))
	}, "400"},
	{"8.3.1", "two methods", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(append([]string{":method", "GET"}, request("GET", "/")...)...))
	}, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "another host", func(p *peer) { p.get(1, "/", "host", "b.test") }, "RESET PROTOCOL_ERROR"},
	{"8.3.1", "the same host", func(p *peer) { p.get(1, "/", "host", "a.test") }, "200"},
	{"8.3.1", "a host alone", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET", ":scheme", "http", ":path", "/", "host", "a.test"))
	}, "200"},
	{"8.3.1", "no host", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET", ":scheme", "http", ":path", "/"))
	}, "400"},
	{"8.3.1", "a user in the authority", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a.test"))
	}, "400"},
	{"8.5", "CONNECT with a path", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("CONNECT", "/")...)) }, "RESET PROTOCOL_ERROR"},
	{"8441, 4", "a protocol without CONNECT", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(append([]string{":protocol", "websocket"}, request("GET", "/")...)...))
	}, "RESET PROTOCOL_ERROR"},
	{"7541, 2.3.3", "an index behind the table", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\xfe") }, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 2.3.3", "an index behind the table for a name", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x7f\x70\x04test") }, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 4.2", "a table's size behind a field", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x20") }, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 5.2", "too much padding of a string", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
	}, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 5.2", "padding of a string by zeros", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")
	}, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 5.2", "the end of a string in it", func(p *peer) {
		p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")
	}, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 6.1", "index 0", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, p.block(request("GET", "/")...)+"\x80") }, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 6.3", "too large a table", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, "\x3f\xe1\xff\x03"+p.block(request("GET", "/")...)) }, "GOAWAY COMPRESSION_ERROR"},
	{"7541, 6.3", "a table of no size", func(p *peer) { p.frame(xhttp2.FrameHeaders, 5, 1, "\x20\x82\x86\x84\x41\x01a") }, "200"},
}

// TestSpecification goes through the cases. After each a new connection is served.
func TestSpecification(t *testing.T) {
	r := start(t, nil)
	for _, c := range cases {
		t.Run(c.section+" "+c.name, func(t *testing.T) {
			p := r.dial()
			p.t = t
			c.do(p)
			if got := p.verdict(1); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			p.conn.Close()
			other := r.dial()
			other.t = t
			other.well(1)
			other.conn.Close()
		})
	}
}

// TestPreface ends what does not begin as it should.
func TestPreface(t *testing.T) {
	r := start(t, nil)
	for _, begin := range []string{
		"INVALID CONNECTION PREFACE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", xhttp2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
		xhttp2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00",
	} {
		p := r.raw()
		p.write(begin)
		if got := p.verdict(1); got != "GOAWAY PROTOCOL_ERROR" {
			t.Errorf("%q: %s", begin, got)
		}
	}
}
