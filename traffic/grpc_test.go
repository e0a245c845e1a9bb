package traffic_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marucloud/maru"
)

func TestGRPC(t *testing.T) {
	w := newWorld(t, nil)
	for _, app := range []string{"grpc", "http"} { // a port that speaks both is often declared as http
		a, b := startGRPC(t, "a"), startGRPC(t, "b")
		s := web(a, b)
		s.Ports[0].App = app
		s.Timeout = 10 * time.Second
		w.set(s)
		c := grpcTo(t, w, "web.test")
		out := new(wrapperspb.StringValue)
		var trailer metadata.MD
		if err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), out, grpc.Trailer(&trailer)); err != nil || out.Value != "you said hi" || trailer.Get("x-trailer")[0] != "t" {
			t.Fatal(out, trailer, err)
		}
		err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("fail"), out)
		if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "as you wished: 100%" {
			t.Fatal(err)
		}
		talk, err := c.NewStream(t.Context(), &echoService.Streams[0], "/test.Echo/Talk")
		if err != nil {
			t.Fatal(err)
		}
		exchange := func(i int) {
			t.Helper()
			if err := talk.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			if err := talk.RecvMsg(out); err != nil || out.Value != fmt.Sprintf("you said %d", i) {
				t.Fatal(out, err)
			}
		}
		exchange(0)
		// The instance that has the stream drains: the stream goes on, calls go elsewhere.
		for i := range s.Endpoints {
			s.Endpoints[i].Draining = true
		}
		third := startGRPC(t, "c")
		s.Endpoints = append(s.Endpoints, third.endpoint(1))
		w.set(s)
		for i := range 5 {
			exchange(i)
			if err := c.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), out); err != nil {
				t.Fatal(err)
			}
		}
		if r := w.Report(); r.InFlight["a"]+r.InFlight["b"] != 1 {
			t.Fatal(r.InFlight)
		}
		if err := talk.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := talk.RecvMsg(out); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		eventually(t, "drained", func() bool { r := w.Report(); return r.InFlight["a"]+r.InFlight["b"] == 0 })
	}
	for host, want := range map[string]codes.Code{"nowhere.test": codes.Unimplemented, "down.test": codes.Unavailable} {
		down := web()
		down.Service, down.Routes = shop.Service("down"), []maru.Route{{Host: "down.test"}}
		w.set(down)
		err := grpcTo(t, w, host).Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), new(wrapperspb.StringValue))
		if status.Code(err) != want || !strings.Contains(err.Error(), "maru status") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// echoService is a gRPC service with a unary and a two-way method.
var echoService = grpc.ServiceDesc{
	ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Once", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := dec(in); err != nil {
			return nil, err
		}
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
		if in.Value == "fail" {
			return nil, status.Error(codes.FailedPrecondition, "as you wished: 100%")
		}
		return wrapperspb.String("you said " + in.Value), nil
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			in := new(wrapperspb.StringValue)
			if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(wrapperspb.String("you said " + in.Value)); err != nil {
				return err
			}
		}
	}}},
}

func grpcTo(t testing.TB, w *world, authority string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+w.http, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func startGRPC(t testing.TB, id string) *instance {
	t.Helper()
	i := &instance{id: id, addr: freshAddress()}
	i.l = listen(t, fmt.Sprintf("%s:%d", i.addr, port))
	server := grpc.NewServer()
	server.RegisterService(&echoService, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(i.l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	i.stop = func() { server.GracefulStop() }
	return i
}
