package traffic_test

import (
	"context"
	"net"
	"os"

	"github.com/marucloud/maru/internal/sockets"
)

// dial gives connections to one address whatever is asked for.
func (w *world) dial(address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

func duplicate(f *os.File) (*os.File, error) { return sockets.Duplicate(f, f.Name()) }
