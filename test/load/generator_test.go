package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marucloud/maru/test/host"
)

// Kinds of load. A step of a stream is one message there and back.
const (
	http1  = "HTTP/1.1"
	http2  = "HTTP/2"
	post   = "POST"
	stream = "gRPC"
	socket = "WebSocket"
)

const (
	streamLife     = 2 * time.Second // shorter than any drain time here: no stream may be cut
	streamInterval = 100 * time.Millisecond
	requestTimeout = 10 * time.Second
)

// load sends 500 requests a second, in all, to one host of the gateway: 400 over HTTP/1.1 and HTTP/2
// (each tenth a POST, some on connections of their own) and 100 as messages on streams.
type load struct {
	plain, secure, host string
	cancel              context.CancelFunc
	running             sync.WaitGroup

	mu       sync.Mutex
	failures []failure
	took     map[string][]time.Duration
	missed   int // requests that were not sent since too many were waiting
}

type failure struct {
	kind       string
	began, end time.Time
	err        error
}

func startLoad(t *testing.T, plain, secure, host string) *load {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &load{plain: plain, secure: secure, host: host, cancel: cancel, took: map[string][]time.Duration{}}
	keepAlive, once := &http.Transport{MaxIdleConnsPerHost: 64}, &http.Transport{DisableKeepAlives: true}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: host}
	multiplexed := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, secure)
	}}
	t.Cleanup(func() {
		l.stop()
		keepAlive.CloseIdleConnections()
		multiplexed.CloseIdleConnections()
	})
	l.pace(ctx, 200, func(n int) {
		transport := keepAlive
		if n%20 == 3 {
			transport = once
		}
		l.request(ctx, http1, n, "http://"+plain, transport)
	})
	l.pace(ctx, 200, func(n int) { l.request(ctx, http2, n, "https://"+host, multiplexed) })
	connection, err := grpc.NewClient("passthrough:///"+secure, grpc.WithAuthority(host), grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	for range 5 {
		l.running.Go(func() {
			l.streams(ctx, stream, func(ctx context.Context) (*steps, error) { return openStream(ctx, connection) })
		})
		l.running.Go(func() { l.streams(ctx, socket, l.openSocket) })
	}
	return l
}

// stop ends the load and waits for what is in flight.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// more waits until as many further requests were answered or failed.
func (l *load) more(t *testing.T, requests int) {
	t.Helper()
	sent := func() (n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, took := range l.took {
			n += len(took)
		}
		return n
	}
	before := sent()
	host.Eventually(t, time.Minute, "the load goes on", func() bool { return sent()-before >= requests })
}

// pace calls do so many times a second, at most 64 at a time.
func (l *load) pace(ctx context.Context, rate int, do func(n int)) {
	l.running.Go(func() {
		var calls sync.WaitGroup
		defer calls.Wait()
		free := make(chan struct{}, 64)
		began := time.Now()
		for n := 0; ; n++ {
			timer := time.NewTimer(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			select {
			case free <- struct{}{}:
				calls.Go(func() { do(n); <-free })
			default:
				l.mu.Lock()
				l.missed++
				l.mu.Unlock()
			}
		}
	})
}

// request sends one request. It is finished also when the load is stopped meanwhile.
func (l *load) request(ctx context.Context, kind string, n int, base string, transport *http.Transport) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), requestTimeout, errors.New("no answer in time"))
	defer cancel()
	method, path := http.MethodGet, "/"
	if n%10 == 7 {
		method, path, kind = http.MethodPost, "/count?n=0", post
	}
	began := time.Now()
	l.note(kind, began, func() error {
		request, err := http.NewRequestWithContext(ctx, method, base+path, nil)
		if err != nil {
			return err
		}
		request.Host = l.host
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %.300s", response.StatusCode, body)
		}
		return err
	}())
}

func (l *load) note(kind string, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := time.Now()
	l.took[kind] = append(l.took[kind], end.Sub(began))
	if err != nil {
		l.failures = append(l.failures, failure{kind, began, end, err})
	}
}

// steps is an open stream, whatever carries it.
type steps struct {
	send    func(text string) error
	receive func() (string, error)
	finish  func() error // ends it in good order
	close   func()
}

// streams opens a stream, uses it for its life, ends it, and opens the next, until ctx ends.
func (l *load) streams(ctx context.Context, kind string, open func(context.Context) (*steps, error)) {
	for ctx.Err() == nil {
		l.oneStream(context.WithoutCancel(ctx), kind, open)
	}
}

func (l *load) oneStream(ctx context.Context, kind string, open func(context.Context) (*steps, error)) {
	ctx, cancel := context.WithTimeoutCause(ctx, streamLife+requestTimeout, errors.New("no answer in time"))
	defer cancel()
	began := time.Now()
	s, err := open(ctx)
	if err != nil {
		l.note(kind, began, fmt.Errorf("open: %w", err))
		<-time.After(streamInterval)
		return
	}
	defer s.close()
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	for n := 0; time.Since(began) < streamLife; n++ {
		sent, text := time.Now(), fmt.Sprint("message ", n)
		err := s.send(text)
		var answer string
		if err == nil {
			answer, err = s.receive()
		}
		if err == nil && answer != text {
			err = fmt.Errorf("%q came back as %q", text, answer)
		}
		if err != nil {
			l.note(kind, began, fmt.Errorf("cut after %d messages and %s: %w", n, time.Since(began), err))
			return
		}
		l.note(kind, sent, nil)
		<-tick.C
	}
	if err := s.finish(); err != nil {
		l.note(kind, began, fmt.Errorf("end: %w", err))
	}
}

func openStream(ctx context.Context, connection *grpc.ClientConn) (*steps, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Stream")
	if err != nil {
		cancel()
		return nil, err
	}
	receive := func() (string, error) {
		message := new(wrapperspb.StringValue)
		err := s.RecvMsg(message)
		return message.Value, err
	}
	return &steps{
		send:    func(text string) error { return s.SendMsg(wrapperspb.String(text)) },
		receive: receive,
		finish: func() error {
			if err := s.CloseSend(); err != nil {
				return err
			}
			if _, err := receive(); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		},
		close: cancel,
	}, nil
}

func (l *load) openSocket(ctx context.Context) (*steps, error) {
	dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.plain)
	}}
	conn, response, err := dialer.DialContext(ctx, "ws://"+l.host+"/ws", nil) //nolint:bodyclose // the response of a websocket has no body of its own
	if err != nil {
		if response != nil {
			err = fmt.Errorf("%w: %s", err, response.Status)
		}
		return nil, err
	}
	return &steps{
		send: func(text string) error { return conn.WriteMessage(websocket.TextMessage, []byte(text)) },
		receive: func() (string, error) {
			_, data, err := conn.ReadMessage()
			return string(data), err
		},
		finish: func() error {
			return conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		},
		close: func() { _ = conn.Close() },
	}, nil
}

// report fails the test for each failure that is not excused, and logs what was sent.
func (l *load) report(t *testing.T, excused func(failure) bool) {
	t.Helper()
	l.stop()
	var text bytes.Buffer
	for _, kind := range []string{http1, http2, post, stream, socket} {
		took := l.took[kind]
		if len(took) == 0 {
			t.Errorf("nothing was sent over %s", kind)
			continue
		}
		slices.Sort(took)
		fmt.Fprintf(&text, "  %-10s %6d  p50 %7s  p99 %7s  max %7s\n", kind, len(took), took[len(took)/2].Round(10*time.Microsecond),
			took[len(took)*99/100].Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond))
	}
	left, shown := 0, 0
	for _, f := range l.failures {
		if excused != nil && excused(f) {
			continue
		}
		left++
		if shown++; shown <= 20 {
			t.Errorf("%s from %s to %s: %v", f.kind, f.began.Format("04:05.000"), f.end.Format("04:05.000"), f.err)
		}
	}
	t.Logf("%d failed, %d excused, %d not sent\n%s", left, len(l.failures)-left, l.missed, strings.TrimSuffix(text.String(), "\n"))
	if left > 0 {
		t.Errorf("%d requests failed", left)
	}
	sent := 0
	for _, took := range l.took {
		sent += len(took)
	}
	if os.Getenv("MARU_TIMINGS") != "" && l.missed > sent/100 {
		t.Errorf("the load was less than 500 requests a second: %d were not sent", l.missed)
	}
}
