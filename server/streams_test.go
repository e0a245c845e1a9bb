package server_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
	"github.com/marucloud/maru/client"
)

// doors gives a client of each way in.
func (r *rig) doors() map[string]*client.Client {
	return map[string]*client.Client{"socket": r.local, "tls": r.as("streams", maru.RoleAdmin, maru.Scope{})}
}

func (r *rig) deployPlain() {
	r.t.Helper()
	_, err := r.deploy(r.local, r.request(plainApp()))
	wantNil(r.t, err)
}

func execStart(args ...string) *maruv1.ExecRequest {
	return &maruv1.ExecRequest{Message: &maruv1.ExecRequest_Start{Start: &maruv1.ExecStart{
		Scope: &maruv1.Scope{App: "shop"}, Service: "web", Args: args, Stdin: true,
	}}}
}

func TestExec(t *testing.T) {
	r := start(t)
	r.deployPlain()
	for name, c := range r.doors() {
		t.Run(name, func(t *testing.T) {
			stream, err := c.Exec.Exec(t.Context())
			wantNil(t, err)
			wantNil(t, stream.Send(execStart("cat")))
			first, err := stream.Receive()
			wantNil(t, err)
			if first.GetStarted().GetInstance() != "web-1-aaaaa" {
				t.Fatalf("begins with %v", first)
			}
			sent := strings.Repeat("all bytes \x00\xff\n", 50_000)
			var got bytes.Buffer
			// Each half is answered before the next is sent: both sides speak at once.
			for _, half := range []string{sent[:len(sent)/2], sent[len(sent)/2:]} {
				want := got.Len() + len(half)
				for piece := range slices.Chunk([]byte(half), 30_000) {
					wantNil(t, stream.Send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Stdin{Stdin: piece}}))
				}
				for got.Len() < want {
					m, err := stream.Receive()
					wantNil(t, err)
					got.Write(m.GetStdout())
				}
			}
			wantNil(t, stream.Send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_StdinClosed{StdinClosed: true}}))
			last, err := stream.Receive()
			wantNil(t, err)
			if _, ok := last.Message.(*maruv1.ExecResponse_ExitCode); !ok || last.GetExitCode() != 0 || got.String() != sent {
				t.Fatalf("ends with %v; %d of %d bytes came back", last, got.Len(), len(sent))
			}
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
		})
	}
}

func TestExecTellsSizesAndCodes(t *testing.T) {
	r := start(t)
	r.deployPlain()
	stream, err := r.local.Exec.Exec(t.Context())
	wantNil(t, err)
	wantNil(t, stream.Send(execStart("sizes")))
	for _, rows := range []uint32{24, 0} {
		wantNil(t, stream.Send(&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Size{Size: &maruv1.TermSize{Rows: rows, Cols: 80}}}))
	}
	var out strings.Builder
	for {
		m, err := stream.Receive()
		wantNil(t, err)
		out.Write(m.GetStdout())
		if _, ok := m.Message.(*maruv1.ExecResponse_ExitCode); ok {
			break
		}
	}
	if !strings.HasSuffix(out.String(), "0x80 ") { // the newest is told, whatever was before
		t.Fatalf("sizes %q", out.String())
	}
	_ = stream.CloseResponse()

	stream, err = r.local.Exec.Exec(t.Context())
	wantNil(t, err)
	wantNil(t, stream.Send(execStart("nope")))
	var code int32
	var stderr string
	for {
		m, err := stream.Receive()
		if err != nil {
			break
		}
		stderr += string(m.GetStderr())
		code += m.GetExitCode()
	}
	if code != 127 || stderr != "web-1-aaaaa: no nope" {
		t.Fatalf("code %d, %q", code, stderr)
	}
}

func TestExecEndsWithItsCaller(t *testing.T) {
	r := start(t)
	r.deployPlain()
	ctx, leave := context.WithCancel(t.Context())
	stream, err := r.local.Exec.Exec(ctx)
	wantNil(t, err)
	wantNil(t, stream.Send(execStart("forever")))
	_, err = stream.Receive()
	wantNil(t, err)
	leave()
	_ = stream.CloseResponse()
	r.waitFor(func(w *world) bool { return slices.Contains(w.by, "exec ended") })
}

// waitFor waits until the world is so.
func (r *rig) waitFor(so func(*world) bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.world.mu.Lock()
		is, changed := so(r.world), r.world.changed
		r.world.mu.Unlock()
		if is {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.t.Fatal("it did not come to that")
		}
	}
}

func TestExecRefuses(t *testing.T) {
	r := start(t)
	r.deployPlain()
	for name, c := range map[string]struct {
		first *maruv1.ExecRequest
		kind  maru.Kind
	}{
		"no start":   {&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Stdin{Stdin: []byte("x")}}, maru.Invalid},
		"no command": {execStart(), maru.Invalid},
		"no app": {&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Start{Start: &maruv1.ExecStart{
			Service: "web", Args: []string{"cat"},
		}}}, maru.Invalid},
		"no service": {&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Start{Start: &maruv1.ExecStart{
			Scope: protoScope(shop), Service: "nope", Args: []string{"cat"},
		}}}, maru.NotFound},
		"run of no app": {&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Run{Run: &maruv1.RunStart{}}}, maru.Invalid},
		"instance elsewhere": {&maruv1.ExecRequest{Message: &maruv1.ExecRequest_Start{Start: &maruv1.ExecStart{
			Scope: protoScope(shop), Service: "db", Instance: "web-1", Args: []string{"cat"},
		}}}, maru.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := r.local.Exec.Exec(t.Context())
			wantNil(t, err)
			wantNil(t, stream.Send(c.first))
			_, err = stream.Receive()
			wantKind(t, err, c.kind)
		})
	}
}

func TestForward(t *testing.T) {
	r := start(t)
	r.deployPlain()
	for name, c := range r.doors() {
		t.Run(name, func(t *testing.T) {
			stream, err := c.Exec.Forward(t.Context())
			wantNil(t, err)
			begin := &maruv1.ForwardStart{Scope: protoScope(shop), Service: "web", Port: 80}
			wantNil(t, stream.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Start{Start: begin}}))
			_, err = stream.Receive()
			wantNil(t, err)
			wantNil(t, stream.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Data{Data: []byte("hello")}}))
			wantNil(t, stream.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Closed{Closed: true}}))
			var got strings.Builder
			for {
				m, err := stream.Receive()
				wantNil(t, err)
				got.Write(m.GetData())
				if m.GetClosed() {
					break
				}
			}
			if got.String() != "HELLO." { // the dot comes after the half-close
				t.Fatalf("got %q", got.String())
			}
		})
	}
	stream, err := r.local.Exec.Forward(t.Context())
	wantNil(t, err)
	begin := &maruv1.ForwardStart{Scope: protoScope(shop), Service: "web", Port: 1}
	wantNil(t, stream.Send(&maruv1.ForwardRequest{Message: &maruv1.ForwardRequest_Start{Start: begin}}))
	_, err = stream.Receive()
	wantKind(t, err, maru.Unavailable)
}

func runStart(args ...string) *maruv1.ExecRequest {
	return &maruv1.ExecRequest{Message: &maruv1.ExecRequest_Run{Run: &maruv1.RunStart{
		Command: &maruv1.RunRequest{Scope: protoScope(shop), Service: "web", Args: args}, Stdin: true,
	}}}
}

// hear takes what a command writes and how it ends.
func hear(t *testing.T, stream *connect.BidiStreamForClientSimple[maruv1.ExecRequest, maruv1.ExecResponse]) (output string, last *maruv1.ExecResponse) {
	t.Helper()
	for {
		m, err := stream.Receive()
		wantNil(t, err)
		output += string(m.GetStdout())
		switch m.Message.(type) {
		case *maruv1.ExecResponse_ExitCode, *maruv1.ExecResponse_Failed:
			return output, m
		}
	}
}

func TestRunHasStreamsAndSignals(t *testing.T) {
	r := start(t)
	r.deployPlain()
	for name, c := range map[string]struct {
		command string
		then    []*maruv1.ExecRequest
		output  string
		code    int32
		failed  string
	}{
		"input": {"cat", []*maruv1.ExecRequest{
			{Message: &maruv1.ExecRequest_Stdin{Stdin: []byte("typed")}}, {Message: &maruv1.ExecRequest_StdinClosed{StdinClosed: true}},
		}, "typed", 0, ""},
		"signal":     {"signals", []*maruv1.ExecRequest{{Message: &maruv1.ExecRequest_Signal{Signal: "SIGINT"}}}, "SIGINT", 130, ""},
		"no program": {"missing", nil, "", 127, "there is no program"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := r.local.Exec.Exec(t.Context())
			wantNil(t, err)
			wantNil(t, stream.Send(runStart(c.command)))
			for _, m := range c.then {
				wantNil(t, stream.Send(m))
			}
			output, last := hear(t, stream)
			if output != c.output || last.GetExitCode()+last.GetFailed().GetExitCode() != c.code || last.GetFailed().GetMessage() != c.failed {
				t.Fatalf("%q and %v", output, last)
			}
			r.waitFor(func(w *world) bool { return len(w.jobs) == 0 })
		})
	}
}

func TestRunGoesWithItsCaller(t *testing.T) {
	r := start(t)
	r.deployPlain()
	ctx, leave := context.WithCancel(t.Context())
	stream, err := r.local.Exec.Exec(ctx)
	wantNil(t, err)
	wantNil(t, stream.Send(runStart("forever")))
	_, err = stream.Receive()
	wantNil(t, err)
	leave()
	_ = stream.CloseResponse()
	r.waitFor(func(w *world) bool { return slices.Contains(w.by, "exec ended") && len(w.jobs) == 0 })
}

func TestRunSaysWhyItCanNotStart(t *testing.T) {
	r := start(t)
	r.deployPlain()
	r.world.mu.Lock()
	r.world.unstartable = "its image was taken away"
	r.world.mu.Unlock()
	stream, err := r.local.Exec.Exec(t.Context())
	wantNil(t, err)
	wantNil(t, stream.Send(runStart("cat")))
	_, err = stream.Receive()
	wantKind(t, err, maru.Conflict)
	r.waitFor(func(w *world) bool { return len(w.jobs) == 0 })
}

func TestRunDetached(t *testing.T) {
	r := start(t)
	r.deployPlain()
	begun, err := r.local.Exec.Run(t.Context(), &maruv1.RunRequest{Scope: protoScope(shop), Service: "web",
		Entrypoint: &maruv1.Entrypoint{}, Env: map[string]string{"B": "2"}, User: "nobody"})
	wantNil(t, err)
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	w, there := r.world.jobs[shop.Service("web").Workload(begun.Workload)]
	c := w.Container
	if !there || w.Held || c.Entrypoint == nil || c.Command == nil || len(c.Entrypoint)+len(c.Command) != 0 ||
		c.Env["A"] != "1" || c.Env["B"] != "2" || c.User != "nobody" {
		t.Fatalf("%s: %+v", begun.Workload, w)
	}
}

func TestLogs(t *testing.T) {
	r := start(t)
	for i := range 5000 {
		r.world.entries = append(r.world.entries, maru.LogEntry{
			Workload: shop.Service("web").Workload("1"), Instance: "i", Line: maru.Itoa(i) + "\xff", Cursor: string(rune('a' + i%20)),
		})
	}
	stream, err := r.local.Logs.Logs(t.Context(), &maruv1.LogsRequest{Scope: protoScope(shop), Follow: true})
	wantNil(t, err)
	got := 0
	for got < 5001 && stream.Receive() {
		for _, e := range stream.Msg().Entries {
			if want := maru.Itoa(got) + "\xff"; string(e.Line) != want {
				t.Fatalf("line %q, want %q", e.Line, want)
			}
			got++
		}
		if got == 5000 {
			r.world.mu.Lock()
			r.world.entries = append(r.world.entries, maru.LogEntry{Workload: shop.Service("web").Workload("1"), Instance: "i", Line: "5000\xff"})
			r.world.bump()
			r.world.mu.Unlock()
		}
	}
	if got != 5001 {
		t.Fatalf("%d lines, %v", got, stream.Err())
	}
	_ = stream.Close()
	bad, err := r.local.Logs.Logs(t.Context(), &maruv1.LogsRequest{Pattern: "("})
	wantNil(t, err)
	if bad.Receive() {
		t.Fatal("a pattern that is none is taken")
	}
	wantKind(t, bad.Err(), maru.Invalid)
}

func TestEvents(t *testing.T) {
	r := start(t)
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	keep := func(scope maru.Scope, minute int, service string) {
		at := base.Add(time.Duration(minute) * time.Minute)
		e := maru.Event{Time: at, Scope: scope, Service: service, Type: "test", Message: maru.Itoa(minute)}
		_, err := r.store.Commit(t.Context(), maru.Change{Key: maru.Key{Kind: "event", Name: scope.String() + "/" + at.Format("20060102T150405.000000000Z") + "-x"}, Data: maru.Raw(e)})
		wantNil(t, err)
	}
	other := maru.Scope{Project: "default", Environment: "preview", App: "shop"}
	keep(shop, 1, "web")
	keep(other, 2, "web")
	keep(shop, 3, "db")
	keep(shop, 4, "web")
	read := func(c *client.Client, req *maruv1.EventsRequest) string {
		t.Helper()
		stream, err := c.Apps.Events(t.Context(), req)
		wantNil(t, err)
		var got []string
		for stream.Receive() {
			got = append(got, stream.Msg().Event.Message)
		}
		wantNil(t, stream.Err())
		return strings.Join(got, " ")
	}
	for want, req := range map[string]*maruv1.EventsRequest{
		"1 2 3 4": {}, "1 3 4": {Scope: protoScope(shop)}, "1 4": {Scope: protoScope(shop), Service: "web"},
		"3 4": {Scope: protoScope(shop), Since: timestamppb.New(base.Add(2 * time.Minute))}, "4": {Tail: 1}, "": {Tail: -1},
		"2": {Scope: &maruv1.Scope{Environment: "preview"}},
	} {
		if got := read(r.local, req); got != want {
			t.Errorf("%v gives %q, want %q", req, got, want)
		}
	}
	if got := read(r.as("narrow", maru.RoleRead, other), &maruv1.EventsRequest{}); got != "2" {
		t.Errorf("a token for one app sees the events %q", got)
	}
	stream, err := r.local.Apps.Events(t.Context(), &maruv1.EventsRequest{Scope: protoScope(shop), Tail: 1, Follow: true})
	wantNil(t, err)
	var got []string
	for len(got) < 2 && stream.Receive() {
		if got = append(got, stream.Msg().Event.Message); len(got) == 1 {
			keep(other, 5, "web")
			keep(shop, 6, "web")
		}
	}
	if strings.Join(got, " ") != "4 6" {
		t.Fatalf("followed %q, %v", got, stream.Err())
	}
	_ = stream.Close()
}

func TestImagesBackupsAndRest(t *testing.T) {
	r := start(t)
	r.deployPlain()
	load, err := r.local.Images.Load(t.Context())
	wantNil(t, err)
	for range 3 {
		wantNil(t, load.Send(&maruv1.LoadRequest{Data: make([]byte, 100_000)}))
	}
	loaded, err := load.CloseAndReceive()
	wantNil(t, err)
	if loaded.Images[0].Bytes != 300_000 {
		t.Fatalf("loaded %v", loaded)
	}
	pruned, err := r.local.Images.Prune(t.Context(), &maruv1.PruneRequest{})
	wantNil(t, err)
	if pruned.Removed[0].Names[0] != "kept@sha256:1" {
		t.Fatal("what releases use is not kept")
	}
	pull, err := r.local.Images.Pull(t.Context(), &maruv1.PullRequest{Reference: "x:1"})
	wantNil(t, err)
	var image *maruv1.Image
	for pull.Receive() {
		image = pull.Msg().Image
	}
	if wantNil(t, pull.Err()); image.GetNames()[0] != "x:1" {
		t.Fatalf("pulled %v", image)
	}

	backup, err := r.local.System.Backup(t.Context(), &maruv1.BackupRequest{Passphrase: "open"})
	wantNil(t, err)
	var saved bytes.Buffer
	for backup.Receive() {
		saved.Write(backup.Msg().Data)
	}
	if wantNil(t, backup.Err()); saved.Len() != 100_000*len("open with volumes\n") {
		t.Fatalf("the backup has %d bytes", saved.Len())
	}
	restore, err := r.local.System.Restore(t.Context())
	wantNil(t, err)
	wantNil(t, restore.Send(&maruv1.RestoreRequest{Passphrase: "open", Data: []byte("12")}))
	wantNil(t, restore.Send(&maruv1.RestoreRequest{Data: []byte("345")}))
	restored, err := restore.CloseAndReceive()
	wantNil(t, err)
	if restored.Apps[0] != "open" || restored.Volumes[0] != "5" {
		t.Fatalf("restored %v", restored)
	}
	usage, err := r.local.Apps.Usage(t.Context(), &maruv1.UsageRequest{})
	wantNil(t, err)
	if len(usage.Usage) != 1 || usage.Usage[0].Service != "web" || usage.Usage[0].Memory != 42 {
		t.Fatalf("usage %v", usage)
	}
}

func TestTheServerEndsStreamsAndFinishesCalls(t *testing.T) {
	r := start(t)
	r.deployPlain()
	stream, err := r.local.Apps.Watch(t.Context(), &maruv1.WatchRequest{Scope: protoScope(shop)})
	wantNil(t, err)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	r.stop()
	for stream.Receive() {
	}
	wantKind(t, stream.Err(), maru.Unavailable)
	if !strings.Contains(stream.Err().Error(), "restarting") {
		t.Fatal(stream.Err())
	}
	if err := <-r.stopped; err != nil {
		t.Fatal(err)
	}
	r.stopped <- nil
}
