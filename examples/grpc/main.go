// Grpc is a gRPC service with one call that answers once and one that answers again and again. Its
// messages are protobuf's own well-known ones, so that it needs no generated code.
//
// As a client: grpc -call ADDRESS NAME.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	call := flag.String("call", "", "call the service at this address instead of being it")
	flag.Parse()
	if *call != "" {
		if err := ask(context.Background(), *call, flag.Arg(0), os.Stdout); err != nil {
			log.Fatal(err)
		}
		return
	}
	listener, err := net.Listen("tcp", ":9090")
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, listener); err != nil {
		log.Fatal(err)
	}
}

// serve answers until ctx ends, and then those who are still listening.
func serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer()
	alive := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, alive)
	host, _ := os.Hostname()
	server.RegisterService(&service, &teller{host: host, done: ctx.Done()})
	stopped := context.AfterFunc(ctx, func() {
		alive.Shutdown()
		server.GracefulStop()
	})
	defer stopped()
	return server.Serve(listener)
}

// tells is what the service does.
type tells interface {
	Greet(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
	Tick(*emptypb.Empty, grpc.ServerStreamingServer[wrapperspb.Int64Value]) error
}

var service = grpc.ServiceDesc{
	ServiceName: "example.Teller",
	HandlerType: (*tells)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Greet",
		Handler: func(s any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var name wrapperspb.StringValue
			if err := decode(&name); err != nil {
				return nil, err
			}
			return s.(tells).Greet(ctx, &name)
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Tick",
		ServerStreams: true,
		Handler: func(s any, stream grpc.ServerStream) error {
			var from emptypb.Empty
			if err := stream.RecvMsg(&from); err != nil {
				return err
			}
			return s.(tells).Tick(&from, &grpc.GenericServerStream[emptypb.Empty, wrapperspb.Int64Value]{ServerStream: stream})
		},
	}},
}

type teller struct {
	host string
	done <-chan struct{}
}

// Greet says who answers.
func (t *teller) Greet(_ context.Context, name *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(fmt.Sprintf("Hello %s, this is %s.", name.GetValue(), t.host)), nil
}

// Tick counts, ten times a second, until the caller has enough or the service stops.
func (t *teller) Tick(_ *emptypb.Empty, stream grpc.ServerStreamingServer[wrapperspb.Int64Value]) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		if err := stream.Send(wrapperspb.Int64(n)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-t.done:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}

// ask greets the service and lets it count to three.
func ask(ctx context.Context, address, name string, out io.Writer) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	var answer wrapperspb.StringValue
	if err := conn.Invoke(ctx, "/example.Teller/Greet", wrapperspb.String(name), &answer); err != nil {
		return err
	}
	fmt.Fprintln(out, answer.GetValue())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &service.Streams[0], "/example.Teller/Tick")
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for range 3 {
		var n wrapperspb.Int64Value
		if err := stream.RecvMsg(&n); err != nil {
			return err
		}
		fmt.Fprintln(out, n.GetValue())
	}
	return nil
}
