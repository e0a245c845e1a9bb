// Package probe asks instances how they are: by HTTP, TCP, gRPC or a command, and with one question
// more, which protocol a port speaks.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/marucloud/maru"
)

// DefaultTimeout is how long an answer may take.
const DefaultTimeout = 2 * time.Second

// maxAnswer is how much of an answer is shown.
const maxAnswer = 200

// Target is whom to ask.
type Target struct {
	Address netip.Addr
	Port    uint16   // the first declared TCP port, for probes that name none
	Ports   []uint16 // all declared TCP ports, else those that the image names
	// Exec runs a command in the instance and gives its exit code and the end of its output.
	Exec func(ctx context.Context, args []string) (code int, output string, err error)
}

// Ask asks once. The answer says in words what was asked and what came back, such as "GET /healthz
// on port 8080 answered 503: starting".
func Ask(ctx context.Context, p maru.Probe, t Target) (answer string, ok bool) {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	late := fmt.Errorf("did not answer within %s", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late)
	defer cancel()
	question, answer, ok := ask(ctx, p, t)
	if !ok && errors.Is(context.Cause(ctx), late) {
		answer = late.Error()
	}
	return question + " " + answer, ok
}

func ask(ctx context.Context, p maru.Probe, t Target) (question, answer string, ok bool) {
	switch {
	case p.HTTP != nil:
		port := portOr(p.HTTP.Port, t.Port)
		path := "/" + strings.TrimPrefix(p.HTTP.Path, "/")
		answer, ok = askHTTP(ctx, *p.HTTP, netip.AddrPortFrom(t.Address, port), path)
		return fmt.Sprintf("GET %s on port %d", path, port), answer, ok
	case p.GRPC != nil:
		port := portOr(p.GRPC.Port, t.Port)
		answer, ok = askGRPC(ctx, p.GRPC.Service, netip.AddrPortFrom(t.Address, port))
		return fmt.Sprintf("gRPC health check on port %d", port), answer, ok
	case len(p.Exec) > 0:
		answer, ok = askExec(ctx, p.Exec, t)
		return fmt.Sprintf("%q", shorten(strings.Join(p.Exec, " "))), answer, ok
	default:
		port := portOr(p.TCP, t.Port)
		answer, ok = askTCP(ctx, netip.AddrPortFrom(t.Address, port))
		return "port " + strconv.Itoa(int(port)), answer, ok
	}
}

func portOr(port, otherwise uint16) uint16 {
	if port == 0 {
		return otherwise
	}
	return port
}

// client follows no redirects, which are answers as good as any, and keeps no connection: the next
// question is to find out whether a new one works.
var client = http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func askHTTP(ctx context.Context, p maru.HTTPProbe, at netip.AddrPort, path string) (string, bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+path, nil)
	if err != nil {
		return "can't be asked: " + err.Error(), false
	}
	request.Header.Set("User-Agent", "maru-probe")
	for name, value := range p.Headers {
		if http.CanonicalHeaderKey(name) == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return failure(err), false
	}
	defer response.Body.Close()
	if response.StatusCode >= 200 && response.StatusCode < 400 {
		return fmt.Sprintf("answered %d", response.StatusCode), true
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4*maxAnswer)) // a body that is cut short says enough
	if text := shorten(string(body)); text != "" {
		return fmt.Sprintf("answered %d: %s", response.StatusCode, text), false
	}
	return fmt.Sprintf("answered %d", response.StatusCode), false
}

func askTCP(ctx context.Context, at netip.AddrPort) (string, bool) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return failure(err), false
	}
	_ = conn.Close()
	return "accepts connections", true
}

// accepts tells whether one of the ports accepts connections. Without one there is nothing to wait for.
func (t Target) accepts(ctx context.Context) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, DefaultTimeout, errors.New("a port that takes longer is not open"))
	defer cancel()
	for _, port := range t.Ports {
		if _, ok := askTCP(ctx, netip.AddrPortFrom(t.Address, port)); ok {
			return true
		}
	}
	return len(t.Ports) == 0
}

func askGRPC(ctx context.Context, service string, at netip.AddrPort) (string, bool) {
	conn, err := grpc.NewClient("passthrough:///"+at.String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("maru-probe"), grpc.WithNoProxy())
	if err != nil {
		return "can't be asked: " + err.Error(), false
	}
	defer conn.Close()
	response, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return fmt.Sprintf("answered %s: %s", status.Code(err), shorten(status.Convert(err).Message())), false
	}
	return "answered " + response.Status.String(), response.Status == grpc_health_v1.HealthCheckResponse_SERVING
}

func askExec(ctx context.Context, args []string, t Target) (string, bool) {
	code, output, err := t.Exec(ctx, args)
	if err != nil {
		return "could not run: " + shorten(err.Error()), false
	}
	answer := fmt.Sprintf("exited with code %d", code)
	if text := shorten(output); text != "" {
		answer += ": " + text
	}
	return answer, code == 0
}

// failure tells of a failed connection without the addresses, which say nothing to people.
func failure(err error) string {
	var syscall *net.OpError
	if errors.As(err, &syscall) && syscall.Err != nil {
		err = syscall.Err
	}
	text := err.Error()
	if _, after, found := strings.Cut(text, "connect: "); found {
		text = after
	}
	switch {
	case strings.Contains(text, "connection refused"):
		return "refuses connections"
	case strings.Contains(text, "malformed HTTP response"), strings.Contains(text, "readLoopPeekFailLocked"): // spoke first
		return "does not speak HTTP"
	}
	return "failed: " + shorten(text)
}

// shorten makes one short line of a text.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ToValidUTF8(text, "\uFFFD")
	if runes := []rune(text); len(runes) > maxAnswer {
		text = string(runes[:maxAnswer]) + "…"
	}
	return text
}
