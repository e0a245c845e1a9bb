package golang

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/marucloud/maru"
)

// moduleServer is the only thing that a download step can reach: a network namespace with nothing but
// a loopback, on which the builder answers as module proxy and checksum database, asking the real
// ones from the host. So source that nobody has looked at yet can't make the builder's machine talk to
// anything else, and proxies on the host's loopback or behind its VPN work.
type moduleServer struct {
	namespace *os.File
	url       string
	server    *http.Server
	done      chan struct{}
}

func serveModules(f *fetcher, log *slog.Logger) (*moduleServer, error) {
	namespace, listener, err := listenInNewNamespace()
	if err != nil {
		return nil, fmt.Errorf("network for modules: %w", err)
	}
	m := &moduleServer{
		namespace: namespace,
		url:       "http://" + listener.Addr().String(),
		server: &http.Server{
			Handler:           moduleHandler(f, log),
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(m.done)
		_ = m.server.Serve(listener)
	}()
	return m, nil
}

// path names the namespace for runc, which runs while this process does.
func (m *moduleServer) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.namespace.Fd())
}

func (m *moduleServer) close() {
	_ = m.server.Close()
	<-m.done
	m.namespace.Close()
}

// listenInNewNamespace uses a thread that is in the new namespace and therefore thrown away after.
func listenInNewNamespace() (namespace *os.File, listener net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if namespace, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
			return
		}
		if err = loopbackUp(); err == nil {
			listener, err = net.Listen("tcp4", "127.0.0.1:0")
		}
		if err != nil {
			namespace.Close()
		}
	}()
	<-done
	return namespace, listener, err
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// moduleHandler answers what the Go command asks a GOPROXY, the checksum database included.
func moduleHandler(f *fetcher, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || strings.Contains(r.URL.EscapedPath(), "..") {
			http.Error(w, "modules are read only", http.StatusMethodNotAllowed)
			return
		}
		body, err := openModulePath(r.Context(), f, r.URL.EscapedPath())
		if err != nil {
			status := http.StatusBadGateway
			if maru.KindOf(err) == maru.NotFound {
				status = http.StatusNotFound
			}
			log.Debug("a module was not served", "path", r.URL.Path, "error", err)
			http.Error(w, err.Error(), status)
			return
		}
		defer body.Close()
		if _, err := io.Copy(w, body); err != nil {
			panic(http.ErrAbortHandler) // so that the Go command sees a cut transfer, not a short file
		}
	})
}

func openModulePath(ctx context.Context, f *fetcher, path string) (io.ReadCloser, error) {
	database, ok := strings.CutPrefix(path, "/sumdb/")
	if !ok {
		return f.open(ctx, path, "")
	}
	name, rest, _ := strings.Cut(database, "/")
	if rest == "supported" {
		return http.NoBody, nil
	}
	return f.database(ctx, name, "/"+rest)
}
