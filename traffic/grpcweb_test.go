package traffic_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marucloud/maru"
)

// TestGRPCWeb: clients of gRPC-Web speak to a service of gRPC, by each version of HTTP.
func TestGRPCWeb(t *testing.T) {
	w := newSecureWorld(t, false, nil, "web.test")
	for _, app := range []string{"grpc", "http"} {
		s := web(startGRPC(t, "a"))
		s.Ports[0].App = app
		s.Routes[0].Policy = &maru.RoutePolicy{GRPCWeb: true, MaxBody: 1 << 10}
		w.set(s)
		for _, http2 := range []bool{false, true} {
			c := w.client(nil, http2)
			once := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](c, "https://web.test/test.Echo/Once", connect.WithGRPCWeb())
			res, err := once.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hi")))
			if err != nil || res.Msg.Value != "you said hi" || res.Trailer().Get("X-Trailer") != "t" {
				t.Fatal(app, res, err)
			}
			_, err = once.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("fail")))
			if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "as you wished: 100%") {
				t.Error(app, err)
			}
			_, err = once.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String(strings.Repeat("x", 2<<10))))
			if err == nil || !strings.Contains(err.Error(), "larger than 1024 bytes") {
				t.Error(app, err)
			}
			talk := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](c, "https://web.test/test.Echo/Talk", connect.WithGRPCWeb()).CallClientStream(t.Context())
			if err := talk.Send(wrapperspb.String("1")); err != nil {
				t.Fatal(err)
			}
			if res, err := talk.CloseAndReceive(); err != nil || res.Msg.Value != "you said 1" {
				t.Error(app, res, err)
			}
			none := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](c, "https://web.test/test.Echo/None", connect.WithGRPCWeb())
			if _, err := none.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hi"))); connect.CodeOf(err) != connect.CodeUnimplemented {
				t.Error(app, err)
			}
			// gRPC itself is as ever.
			if !http2 {
				continue
			}
			plain := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](c, "https://web.test/test.Echo/Once", connect.WithGRPC())
			if res, err := plain.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hi"))); err != nil || res.Msg.Value != "you said hi" {
				t.Error(app, res, err)
			}
		}
	}
}

// frames gives what the frames of an answer by gRPC-Web hold, trailers behind a "T".
func frames(t *testing.T, body []byte) (all []string) {
	t.Helper()
	for len(body) > 0 {
		if len(body) < 5 {
			t.Fatalf("%q is no frame", body)
		}
		size := int(body[3])<<8 + int(body[4])
		what := string(body[5 : 5+size])
		if body[0] == 0x80 {
			what = "T" + what
		}
		all, body = append(all, what), body[5+size:]
	}
	return all
}

// TestGRPCWebText: the form in base64, padded at the end of each part, and what is none.
func TestGRPCWebText(t *testing.T) {
	w := newWorld(t, nil)
	s := web(startGRPC(t, "a"))
	s.Ports[0].App = "grpc"
	s.Routes[0].Policy = &maru.RoutePolicy{GRPCWeb: true, CORS: &maru.CORS{Origins: []string{"https://app.test"}}}
	w.set(s)
	message := append([]byte{0, 0, 0, 0, 4, 0x0a, 2}, "hi"...)
	whole := base64.StdEncoding.EncodeToString(message)
	parts := base64.StdEncoding.EncodeToString(message[:5]) + base64.StdEncoding.EncodeToString(message[5:7]) + base64.StdEncoding.EncodeToString(message[7:])
	call := func(kind string, body io.Reader) (*http.Response, []byte) {
		t.Helper()
		r := w.request("POST", "web.test", "/test.Echo/Once")
		r.Body, r.ContentLength = io.NopCloser(body), -1
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Origin", "https://app.test")
		res, err := http.DefaultClient.Do(r)
		_, answer := text(t, res, err)
		return res, []byte(answer)
	}
	for what, body := range map[string]io.Reader{
		"whole": strings.NewReader(whole), "in parts": strings.NewReader(parts), "slowly": iotest.OneByteReader(strings.NewReader(parts)),
	} {
		res, answer := call("application/grpc-web-text+proto", body)
		var decoded []byte
		for part := range strings.SplitAfterSeq(string(answer), "=") { // "==" gives an empty part with the second one
			part = strings.Trim(part, "=")
			raw, err := base64.RawStdEncoding.DecodeString(part)
			if err != nil {
				t.Fatalf("%s: %q: %v", what, answer, err)
			}
			decoded = append(decoded, raw...)
		}
		all := frames(t, decoded)
		if len(all) != 2 || all[0] != "\x0a\x0byou said hi" || !strings.HasPrefix(all[1], "T") || !strings.Contains(all[1], "grpc-status: 0\r\n") || !strings.Contains(all[1], "x-trailer: t\r\n") {
			t.Errorf("%s: %q", what, all)
		}
		if kind := res.Header.Get("Content-Type"); kind != "application/grpc-web-text+proto" {
			t.Errorf("%s: %s", what, kind)
		}
		if exposed := res.Header.Get("Access-Control-Expose-Headers"); exposed != "Grpc-Message, Grpc-Status, Grpc-Status-Details-Bin" || res.Header.Get("Trailer") != "" {
			t.Errorf("%s: %v", what, res.Header)
		}
	}
	for what, c := range map[string]struct{ kind, body string }{
		"no base64": {"application/grpc-web-text", "!!!!"}, "cut": {"application/grpc-web-text", whole[:len(whole)-1]}, "padding within": {"application/grpc-web-text", "A=AA"},
	} {
		if res, answer := call(c.kind, strings.NewReader(c.body)); res.Header.Get("Grpc-Status") != "13" {
			t.Errorf("%s: %s %v %q", what, res.Status, res.Header, answer)
		}
	}
	for kind, want := range map[string]int{"application/grpc-website": 415, "application/json": 415} { // gRPC's own answer
		if res, _ := call(kind, bytes.NewReader(message)); res.StatusCode != want {
			t.Errorf("%s: %s", kind, res.Status)
		}
	}
	res, _ := w.spell("OPTIONS", "web.test", "/test.Echo/Once", "Origin: https://app.test", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,x-grpc-web")
	if allowed := res.Header.Get("Access-Control-Allow-Headers"); res.StatusCode != 204 || allowed != "Content-Type, Grpc-Timeout, X-Grpc-Web, X-User-Agent" {
		t.Error(res.Status, allowed)
	}
}
