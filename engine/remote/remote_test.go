package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/engine/enginetest"
	"github.com/marucloud/maru/engine/memory"
	"github.com/marucloud/maru/engine/remote"
)

// serve serves s on a socket until the test ends or stop is called, and gives a client.
func serve(t *testing.T, s remote.Service) (client *remote.Client, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: remote.Handler(s, slog.New(slog.DiscardHandler)), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	stop = sync.OnceFunc(func() {
		_ = server.Close()
		<-done
	})
	t.Cleanup(stop)
	return remote.Dial(socket), stop
}

// fake is an engine whose abilities the tests script.
type fake struct {
	err     error
	watch   func(context.Context, func(maru.Observation, error) bool)
	exec    func(context.Context, maru.ExecCommand, io.Reader, io.Writer, io.Writer) (int, error)
	forward func() (net.Conn, error)
	export  func(io.Writer) error
	pull    func(context.Context, func(maru.PullProgress)) (maru.Image, error)
	taken   []byte
}

func (f *fake) Apply(context.Context, maru.Workload) error    { return f.err }
func (f *fake) Remove(context.Context, maru.WorkloadID) error { return f.err }
func (f *fake) Drained(context.Context, string) error         { return f.err }
func (f *fake) Update(maru.TrafficUpdate) error               { return f.err }
func (f *fake) Usage(context.Context) ([]maru.Usage, error) {
	return []maru.Usage{{Instance: "web-1-aaaaa"}}, f.err
}
func (f *fake) Constraints(context.Context) ([]string, error)     { return []string{"it is slow"}, f.err }
func (f *fake) RemoveVolume(context.Context, maru.VolumeID) error { return f.err }

func (f *fake) Watch(ctx context.Context) iter.Seq2[maru.Observation, error] {
	return func(yield func(maru.Observation, error) bool) { f.watch(ctx, yield) }
}

func (f *fake) Logs(_ context.Context, q maru.LogQuery) iter.Seq2[maru.LogEntry, error] {
	return func(yield func(maru.LogEntry, error) bool) {
		for i := range 3 {
			if !yield(maru.LogEntry{Line: fmt.Sprint(q.Instance, i)}, nil) {
				return
			}
		}
	}
}

func (f *fake) Exec(ctx context.Context, _ string, cmd maru.ExecCommand, in io.Reader, out, err io.Writer) (int, error) {
	return f.exec(ctx, cmd, in, out, err)
}

func (f *fake) Forward(context.Context, string, uint16) (net.Conn, error) { return f.forward() }

func (f *fake) Volumes(context.Context) ([]maru.VolumeStatus, error) { return nil, f.err }

func (f *fake) ExportVolume(_ context.Context, _ maru.VolumeID, w io.Writer) error {
	return f.export(w)
}

func (f *fake) ImportVolume(_ context.Context, _ maru.VolumeID, r io.Reader) (err error) {
	f.taken, err = io.ReadAll(r)
	return errors.Join(err, f.err)
}

func (f *fake) Pull(ctx context.Context, _ string, _ maru.PullOptions, p func(maru.PullProgress)) (maru.Image, error) {
	return f.pull(ctx, p)
}

func (f *fake) Load(_ context.Context, r io.Reader) (loaded []maru.Image, err error) {
	f.taken, err = io.ReadAll(r)
	return []maru.Image{{Reference: "a@sha256:0"}}, errors.Join(err, f.err)
}

func (f *fake) Image(_ context.Context, ref string) (maru.Image, error) {
	return maru.Image{Reference: ref}, f.err
}

func (f *fake) Images(context.Context) ([]maru.Image, error) { return nil, f.err }

func (f *fake) Prune(_ context.Context, keep []string) ([]maru.Image, error) {
	return []maru.Image{{Names: keep}}, f.err
}

func TestErrorsKeepKindAndHint(t *testing.T) {
	f := &fake{err: maru.WithHint(maru.Errorf(maru.Conflict, "it is %w", errors.New("taken")), "choose another")}
	c, _ := serve(t, remote.ServiceOf(f))
	ctx := t.Context()
	_, imageErr := c.Image(ctx, "x")
	_, usageErr := c.Usage(ctx)
	_, constraintsErr := c.Constraints(ctx)
	_, loadErr := c.Load(ctx, strings.NewReader("x"))
	for name, err := range map[string]error{
		"apply": c.Apply(ctx, maru.Workload{}), "remove": c.Remove(ctx, maru.WorkloadID{}), "drained": c.Drained(ctx, "x"),
		"update": c.Update(maru.TrafficUpdate{}), "image": imageErr, "usage": usageErr, "constraints": constraintsErr, "load": loadErr,
		"import": c.ImportVolume(ctx, maru.VolumeID{}, strings.NewReader("x")), "remove volume": c.RemoveVolume(ctx, maru.VolumeID{}),
	} {
		if maru.KindOf(err) != maru.Conflict || maru.HintOf(err) != "choose another" || !strings.Contains(err.Error(), "it is taken") {
			t.Errorf("%s: %v (%s, %q)", name, err, maru.KindOf(err), maru.HintOf(err))
		}
	}
}

func TestWhatIsNotServedIsUnsupported(t *testing.T) {
	c, _ := serve(t, remote.Service{})
	if err := c.Drained(t.Context(), "x"); maru.KindOf(err) != maru.Unsupported {
		t.Error(err)
	}
	if _, err := c.Exec(t.Context(), "x", maru.ExecCommand{}, nil, nil, nil); maru.KindOf(err) != maru.Unsupported {
		t.Error(err)
	}
}

func TestAwayIsUnavailable(t *testing.T) {
	c, stop := serve(t, remote.ServiceOf(&fake{}))
	if err := c.Apply(t.Context(), maru.Workload{}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := c.Apply(t.Context(), maru.Workload{}); maru.KindOf(err) != maru.Unavailable {
		t.Error(err)
	}
	for _, err := range c.Watch(t.Context()) {
		if maru.KindOf(err) != maru.Unavailable {
			t.Error(err)
		}
	}
}

func TestWatchEndsOnBothSides(t *testing.T) {
	ended := make(chan struct{})
	f := &fake{watch: func(ctx context.Context, yield func(maru.Observation, error) bool) {
		defer close(ended)
		if yield(maru.Observation{Wanted: 1}, nil) {
			<-ctx.Done()
		}
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	for o, err := range c.Watch(t.Context()) {
		if err != nil || o.Wanted != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		break
	}
	<-ended
}

func TestWatchTellsWhyItEnded(t *testing.T) {
	f := &fake{}
	c, stop := serve(t, remote.ServiceOf(f))
	f.watch = func(_ context.Context, yield func(maru.Observation, error) bool) {
		yield(maru.Observation{}, maru.Errorf(maru.Unavailable, "stopped"))
	}
	for _, err := range c.Watch(t.Context()) {
		if maru.KindOf(err) != maru.Unavailable || !strings.Contains(err.Error(), "stopped") {
			t.Error(err)
		}
	}
	begun := make(chan struct{})
	f.watch = func(ctx context.Context, yield func(maru.Observation, error) bool) {
		close(begun)
		<-ctx.Done()
	}
	go func() {
		<-begun
		stop()
	}()
	cut := 0
	for _, err := range c.Watch(t.Context()) {
		if maru.KindOf(err) != maru.Unavailable {
			t.Error(err)
		}
		cut++
	}
	if cut != 1 {
		t.Errorf("a stream that was cut off yields %d times", cut)
	}
}

func TestLogs(t *testing.T) {
	c, _ := serve(t, remote.ServiceOf(&fake{}))
	var lines []string
	for entry, err := range c.Logs(t.Context(), maru.LogQuery{Instance: "x"}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, entry.Line)
	}
	if got := strings.Join(lines, " "); got != "x0 x1 x2" {
		t.Error(got)
	}
}

func TestExec(t *testing.T) {
	f := &fake{exec: func(_ context.Context, cmd maru.ExecCommand, in io.Reader, out, errs io.Writer) (int, error) {
		size := <-cmd.Size
		fmt.Fprintf(errs, "%v %d", cmd.Args, size.Rows)
		n, err := io.Copy(out, in)
		if n != 300_000 {
			return 1, fmt.Errorf("%d bytes, %w", n, err)
		}
		return 42, nil
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	sizes := make(chan maru.TermSize, 1)
	sizes <- maru.TermSize{Rows: 24}
	input := bytes.Repeat([]byte("abc"), 100_000)
	var out, errs bytes.Buffer
	code, err := c.Exec(t.Context(), "x", maru.ExecCommand{Args: []string{"a", "b"}, Size: sizes}, bytes.NewReader(input), &out, &errs)
	if err != nil || code != 42 || !bytes.Equal(out.Bytes(), input) || errs.String() != "[a b] 24" {
		t.Errorf("code %d, %v, %d bytes, %q", code, err, out.Len(), errs.String())
	}
}

func TestExecWithoutStreams(t *testing.T) {
	f := &fake{exec: func(_ context.Context, _ maru.ExecCommand, in io.Reader, out, errs io.Writer) (int, error) {
		if in != nil {
			return 1, errors.New("there is a stdin")
		}
		fmt.Fprint(out, "ignored")
		return 0, nil
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	if code, err := c.Exec(t.Context(), "x", maru.ExecCommand{}, nil, nil, nil); code != 0 || err != nil {
		t.Error(code, err)
	}
	f.exec = func(context.Context, maru.ExecCommand, io.Reader, io.Writer, io.Writer) (int, error) {
		return 0, maru.WithHint(maru.Errorf(maru.NotFound, "no such instance"), "look")
	}
	if _, err := c.Exec(t.Context(), "x", maru.ExecCommand{}, nil, nil, nil); maru.KindOf(err) != maru.NotFound || maru.HintOf(err) != "look" {
		t.Error(err)
	}
}

func TestExecEndsWithItsCaller(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	f := &fake{exec: func(ctx context.Context, _ maru.ExecCommand, _ io.Reader, _, _ io.Writer) (int, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return 0, ctx.Err()
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Exec(ctx, "x", maru.ExecCommand{}, nil, nil, nil); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
	<-ended
}

// TestExecAlone returns when what ran in the instance is gone, not before: the next command would be ended with it.
func TestExecAlone(t *testing.T) {
	var gone atomic.Bool
	begun := make(chan struct{})
	f := &fake{exec: func(ctx context.Context, cmd maru.ExecCommand, _ io.Reader, out, _ io.Writer) (int, error) {
		close(begun)
		<-ctx.Done()
		for range 100 {
			_, _ = out.Write(make([]byte, 16<<10)) // what is on its way when the caller goes away
		}
		gone.Store(cmd.Alone)
		return 0, maru.Errorf(maru.Interrupted, "exec: %w", ctx.Err())
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Exec(ctx, "x", maru.ExecCommand{Alone: true}, nil, nil, nil); maru.KindOf(err) != maru.Interrupted || !gone.Load() {
		t.Errorf("%v, gone: %v", err, gone.Load())
	}
}

// TestExecThatDoesNotRead ends with its caller although more input is on its way than it takes.
func TestExecThatDoesNotRead(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	f := &fake{exec: func(ctx context.Context, cmd maru.ExecCommand, _ io.Reader, _, _ io.Writer) (int, error) {
		<-cmd.Size
		close(begun)
		<-ctx.Done()
		close(ended)
		return 0, ctx.Err()
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	ctx, cancel := context.WithCancel(t.Context())
	sizes := make(chan maru.TermSize)
	read := make(chan struct{})
	go func() {
		<-read
		sizes <- maru.TermSize{}
		<-begun
		cancel()
	}()
	endless := &endlessReader{after: 200 << 10, reached: read}
	if _, err := c.Exec(ctx, "x", maru.ExecCommand{Size: sizes}, endless, nil, nil); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
	<-ended
	if read := endless.read.Load(); read > 1<<20 {
		t.Errorf("%d bytes were read for a command that takes none", read)
	}
}

// endlessReader closes reached when so much was read of it.
type endlessReader struct {
	read    atomic.Int64
	after   int64
	reached chan struct{}
}

func (r *endlessReader) Read(p []byte) (int, error) {
	n := int64(len(p))
	if read := r.read.Add(n); read >= r.after && read-n < r.after {
		close(r.reached)
	}
	return len(p), nil
}

func TestForward(t *testing.T) {
	f := &fake{forward: func() (net.Conn, error) {
		var d net.Dialer
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			all, _ := io.ReadAll(conn) // to the end of what is sent
			_, _ = conn.Write(bytes.ToUpper(all))
		}()
		return d.Dial("tcp", listener.Addr().String())
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	conn, err := c.Forward(t.Context(), "x", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "HELLO" {
		t.Errorf("%q, %v", answer, err)
	}
	f.forward = func() (net.Conn, error) { return nil, maru.Errorf(maru.NotFound, "gone") }
	if _, err := c.Forward(t.Context(), "x", 80); maru.KindOf(err) != maru.NotFound {
		t.Error(err)
	}
}

func TestVolumeArchives(t *testing.T) {
	f := &fake{export: func(w io.Writer) error {
		_, err := w.Write(bytes.Repeat([]byte("x"), 1<<20))
		return err
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	var out bytes.Buffer
	if err := c.ExportVolume(t.Context(), maru.VolumeID{}, &out); err != nil || out.Len() != 1<<20 {
		t.Error(err, out.Len())
	}
	f.export = func(w io.Writer) error {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		return maru.Errorf(maru.Conflict, "it changed")
	}
	if err := c.ExportVolume(t.Context(), maru.VolumeID{}, io.Discard); maru.KindOf(err) != maru.Conflict {
		t.Error(err)
	}
	id := maru.VolumeID{Scope: maru.Scope{Project: "p", Environment: "e"}, Volume: "v"}
	if err := c.ImportVolume(t.Context(), id, strings.NewReader("archive")); err != nil || string(f.taken) != "archive" {
		t.Errorf("%v, %q", err, f.taken)
	}
	broken := io.MultiReader(strings.NewReader("arch"), brokenReader{})
	if err := c.ImportVolume(t.Context(), id, broken); err == nil {
		t.Error("an import whose source breaks succeeds")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestPull(t *testing.T) {
	f := &fake{pull: func(_ context.Context, progress func(maru.PullProgress)) (maru.Image, error) {
		for i := range 3 {
			progress(maru.PullProgress{Done: int64(i), Total: 2})
		}
		return maru.Image{Reference: "a@sha256:0"}, nil
	}}
	c, _ := serve(t, remote.ServiceOf(f))
	var done []int64
	image, err := c.Pull(t.Context(), "a", maru.PullOptions{}, func(p maru.PullProgress) { done = append(done, p.Done) })
	if err != nil || image.Reference != "a@sha256:0" || len(done) != 3 {
		t.Error(image, err, done)
	}
	f.pull = func(context.Context, func(maru.PullProgress)) (maru.Image, error) {
		return maru.Image{}, maru.Errorf(maru.Denied, "no")
	}
	if _, err := c.Pull(t.Context(), "a", maru.PullOptions{}, nil); maru.KindOf(err) != maru.Denied {
		t.Error(err)
	}
	begun, ended := make(chan struct{}), make(chan struct{})
	f.pull = func(ctx context.Context, _ func(maru.PullProgress)) (maru.Image, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return maru.Image{}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := c.Pull(ctx, "a", maru.PullOptions{}, nil); maru.KindOf(err) != maru.Interrupted {
		t.Error(err)
	}
	<-ended
}

func TestContractOverTheWire(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		e := memory.New(memory.Config{Behave: behave, HasImage: func(ref string) bool { return ref != "missing" }})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
		c, _ := serve(t, remote.ServiceOf(e))
		return enginetest.Fixture{
			Engine:  c,
			Image:   func(b enginetest.Behaviour) string { return string(b) + "@sha256:0" },
			Missing: "missing",
			Crash:   func(_ *testing.T, id string) { e.Crash(id, maru.Exit{Code: 137, Signal: "SIGKILL"}) },
		}
	})
}

// behave gives images the behaviours that the suite names them after.
func behave(w maru.Workload, _ string, _ int) memory.Behaviour {
	name, _, _ := strings.Cut(w.Image, "@")
	b := memory.Behaviour{Start: time.Millisecond, Ready: time.Millisecond}
	switch enginetest.Behaviour(name) {
	case enginetest.Idle:
		b.Ready, b.Message = -1, "nothing listens on port 8080"
	case enginetest.Stubborn:
		b.Stop = -1
	case enginetest.CrashAfterReady:
		b.Exit = &memory.Exit{After: 20 * time.Millisecond, Code: 3}
	case enginetest.Fail:
		b.Exit = &memory.Exit{Code: 7, Lines: []string{"cannot go on"}}
	case enginetest.Succeed:
		b.Exit = &memory.Exit{}
	}
	return b
}
