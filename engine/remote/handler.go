package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"

	"github.com/marucloud/maru"
)

// trailerError carries, as JSON, the error that ended a body which had begun.
const trailerError = "Maru-Error"

// Service is an engine with its abilities. Those that are nil answer that they are unsupported.
type Service struct {
	Engine    maru.Engine
	Drainer   maru.Drainer
	Logs      maru.Logs
	Execer    maru.Execer
	Forwarder maru.Forwarder
	Meter     maru.Meter
	Limits    maru.Constrained
	Volumes   maru.Volumes
	Images    maru.Images
	Saver     maru.ImageSaver
	DataPlane maru.DataPlane

	Repositories maru.Repositories
	Uploads      maru.Uploads
}

// ServiceOf gives all that an engine implements.
func ServiceOf(engine maru.Engine) Service {
	s := Service{Engine: engine}
	s.Drainer, _ = engine.(maru.Drainer)
	s.Logs, _ = engine.(maru.Logs)
	s.Execer, _ = engine.(maru.Execer)
	s.Forwarder, _ = engine.(maru.Forwarder)
	s.Meter, _ = engine.(maru.Meter)
	s.Limits, _ = engine.(maru.Constrained)
	s.Volumes, _ = engine.(maru.Volumes)
	s.Images, _ = engine.(maru.Images)
	s.Saver, _ = engine.(maru.ImageSaver)
	s.DataPlane, _ = engine.(maru.DataPlane)
	s.Repositories, _ = engine.(maru.Repositories)
	s.Uploads, _ = engine.(maru.Uploads)
	return s
}

// handler serves a Service.
type handler struct {
	Service
	log *slog.Logger
}

// Handler serves the engine to a [Client]. Whoever reaches it may do everything: it belongs on a unix
// socket that only root can open.
func Handler(s Service, log *slog.Logger) http.Handler {
	h := &handler{s, log}
	mux := http.NewServeMux()
	route := func(name string, there bool, serve func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
			err := error(maru.Errorf(maru.Unsupported, "this engine can't do %s", name))
			if there {
				err = serve(w, r)
			}
			if err != nil {
				h.fail(w, name, err)
			}
		})
	}
	route("apply", s.Engine != nil, h.apply)
	route("remove", s.Engine != nil, h.remove)
	route("watch", s.Engine != nil, h.watch)
	route("drained", s.Drainer != nil, h.drained)
	route("logs", s.Logs != nil, h.logs)
	route("exec", s.Execer != nil, h.exec)
	route("forward", s.Forwarder != nil, h.forward)
	route("usage", s.Meter != nil, h.usage)
	route("constraints", s.Limits != nil, h.constraints)
	route("volumes", s.Volumes != nil, h.volumes)
	route("volumes/remove", s.Volumes != nil, h.removeVolume)
	route("volumes/export", s.Volumes != nil, h.exportVolume)
	route("volumes/import", s.Volumes != nil, h.importVolume)
	route("images", s.Images != nil, h.images)
	route("images/find", s.Images != nil, h.image)
	route("images/pull", s.Images != nil, h.pull)
	route("images/load", s.Images != nil, h.load)
	route("images/prune", s.Images != nil, h.prune)
	route("images/save", s.Saver != nil, h.save)
	route("traffic", s.DataPlane != nil, h.traffic)
	route("contents", s.Repositories != nil, h.contents)
	route("contents/find", s.Repositories != nil, h.content)
	route("contents/put", s.Repositories != nil, h.putContent)
	route("contents/remove", s.Repositories != nil, h.removeContent)
	route("contents/read", s.Repositories != nil, h.readContent)
	route("uploads/append", s.Uploads != nil, h.appendUpload)
	route("uploads/size", s.Uploads != nil, h.uploadSize)
	route("uploads/commit", s.Uploads != nil, h.commitUpload)
	route("uploads/drop", s.Uploads != nil, h.dropUpload)
	return mux
}

func (h *handler) fail(w http.ResponseWriter, name string, err error) {
	if maru.KindOf(err) == maru.Internal && !errors.Is(err, context.Canceled) {
		h.log.Error("engine call failed", "call", name, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(toFailure(err))
}

func answer(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // a caller that went away needs no answer
	return nil
}

// call answers a request whose body is In with what do gives.
func call[In, Out any](w http.ResponseWriter, r *http.Request, do func(context.Context, In) (Out, error)) error {
	var in In
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	out, err := do(r.Context(), in)
	if err != nil {
		return err
	}
	return answer(w, out)
}

type nothing struct{}

func (h *handler) apply(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, workload maru.Workload) (nothing, error) {
		return nothing{}, h.Engine.Apply(ctx, workload)
	})
}

func (h *handler) remove(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in removeRequest) (nothing, error) {
		return nothing{}, h.Engine.Remove(ctx, in.Workload)
	})
}

func (h *handler) drained(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in drainedRequest) (nothing, error) {
		return nothing{}, h.Drainer.Drained(ctx, in.Instance)
	})
}

func (h *handler) constraints(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, _ nothing) ([]string, error) { return h.Limits.Constraints(ctx) })
}

func (h *handler) usage(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, _ nothing) ([]maru.Usage, error) { return h.Meter.Usage(ctx) })
}

func (h *handler) volumes(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, _ nothing) ([]maru.VolumeStatus, error) { return h.Volumes.Volumes(ctx) })
}

func (h *handler) removeVolume(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in volumeRequest) (nothing, error) {
		return nothing{}, h.Volumes.RemoveVolume(ctx, in.Volume)
	})
}

func (h *handler) images(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, _ nothing) ([]maru.Image, error) { return h.Images.Images(ctx) })
}

func (h *handler) image(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in imageRequest) (maru.Image, error) {
		return h.Images.Image(ctx, in.Reference)
	})
}

func (h *handler) prune(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(ctx context.Context, in pruneRequest) ([]maru.Image, error) { return h.Images.Prune(ctx, in.Keep) })
}

func (h *handler) traffic(w http.ResponseWriter, r *http.Request) error {
	return call(w, r, func(_ context.Context, update maru.TrafficUpdate) (nothing, error) {
		return nothing{}, h.DataPlane.Update(update)
	})
}

func (h *handler) load(w http.ResponseWriter, r *http.Request) error {
	images, err := h.Images.Load(r.Context(), r.Body)
	if err != nil {
		return err
	}
	return answer(w, images)
}

// stream writes values as lines, each at once, and how it ended.
func stream[T any](w http.ResponseWriter, values iter.Seq2[T, error]) error {
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	control, encoder := http.NewResponseController(w), json.NewEncoder(w)
	_ = control.Flush()
	last := line[T]{End: true}
	for value, err := range values {
		if err != nil {
			last.Error = toFailure(err)
			break
		}
		if encoder.Encode(line[T]{Value: &value}) != nil || control.Flush() != nil {
			return nil
		}
	}
	_ = encoder.Encode(last)
	return nil
}

func (h *handler) watch(w http.ResponseWriter, r *http.Request) error {
	if err := decode(r.Body, &nothing{}); err != nil { // only when it was read is it seen that the caller goes away
		return err
	}
	return stream(w, h.Engine.Watch(r.Context()))
}

func (h *handler) logs(w http.ResponseWriter, r *http.Request) error {
	var q maru.LogQuery
	if err := decode(r.Body, &q); err != nil {
		return err
	}
	return stream(w, h.Logs.Logs(r.Context(), q))
}

func (h *handler) pull(w http.ResponseWriter, r *http.Request) error {
	var in pullRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	return stream(w, func(yield func(pullStep, error) bool) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		listening := true
		image, err := h.Images.Pull(ctx, in.Reference, in.Options, func(p maru.PullProgress) {
			if listening && !yield(pullStep{Progress: &p}, nil) {
				listening = false
				cancel()
			}
		})
		if listening {
			yield(pullStep{Image: &image}, err)
		}
	})
}

func (h *handler) exportVolume(w http.ResponseWriter, r *http.Request) error {
	var in volumeRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	return archive(w, func(to io.Writer) error { return h.Volumes.ExportVolume(r.Context(), in.Volume, to) })
}

func (h *handler) save(w http.ResponseWriter, r *http.Request) error {
	var in saveRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	return archive(w, func(to io.Writer) error { return h.Saver.SaveImages(r.Context(), in.References, to) })
}

// archive answers with a tar stream, and tells behind it how it ended.
func archive(w http.ResponseWriter, write func(io.Writer) error) error {
	w.Header().Set("Trailer", trailerError)
	w.Header().Set("Content-Type", "application/x-tar")
	outcome, err := json.Marshal(toFailure(write(w)))
	if err != nil {
		return err
	}
	w.Header().Set(trailerError, string(outcome))
	return nil
}

func (h *handler) importVolume(w http.ResponseWriter, r *http.Request) error {
	var id maru.VolumeID
	if err := id.UnmarshalText([]byte(r.URL.Query().Get("volume"))); err != nil {
		return err
	}
	if err := h.Volumes.ImportVolume(r.Context(), id, r.Body); err != nil {
		return err
	}
	return answer(w, nothing{})
}

// hijack answers that the connection is no longer HTTP's and gives it. What the client sent already is in the reader.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.Reader, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, maru.Errorf(maru.Internal, "take over the connection: %w", err)
	}
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: maru\r\n\r\n")
	if err != nil {
		_ = conn.Close()
		return nil, nil, maru.Errorf(maru.Interrupted, "the caller went away: %w", err)
	}
	return conn, buffered.Reader, nil
}

// signalBacklog is how many signals may wait for a command that is just starting.
const signalBacklog = 16

func (h *handler) exec(w http.ResponseWriter, r *http.Request) error {
	var in execRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	conn, buffered, err := hijack(w)
	if err != nil {
		return nil
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	out := &frames{w: conn}
	queue := newStdinQueue(func(n int) { _ = out.write(frameCredit, credit(n)) }) // a caller that is gone sends no more
	sizes := make(chan maru.TermSize, 1)
	signals := make(chan string, signalBacklog)
	received := make(chan struct{})
	go func() {
		defer close(received)
		defer close(sizes)
		defer close(signals)
		receiveExec(buffered, queue, sizes, signals)
		cancel() // the caller went away, or the command is over
	}()
	var stdin io.Reader
	if in.Stdin {
		stdin = queue
	}
	in.Command.Signals = signals
	if in.Sized {
		in.Command.Size = sizes
	}
	code, err := h.Execer.Exec(ctx, in.Instance, in.Command, stdin, out.writer(frameStdout), out.writer(frameStderr))
	payload, marshalErr := json.Marshal(exit{code, toFailure(err)})
	if marshalErr == nil {
		_ = out.write(frameExit, payload)
	}
	cancel()
	queue.end(io.ErrClosedPipe)
	_ = conn.Close()
	<-received
	return nil
}

// receiveExec takes the caller's frames until the connection ends.
func receiveExec(from io.Reader, stdin *stdinQueue, sizes chan maru.TermSize, signals chan<- string) {
	defer stdin.end(io.ErrUnexpectedEOF)
	for {
		kind, payload, err := readFrame(from)
		if err != nil {
			return
		}
		switch kind {
		case frameStdin:
			if stdin.add(payload) != nil {
				return
			}
		case frameStdinEnd:
			stdin.end(io.EOF)
		case frameSize:
			var size maru.TermSize
			if json.Unmarshal(payload, &size) != nil {
				return
			}
			offer(sizes, size)
		case frameSignal:
			select {
			case signals <- string(payload):
			default: // whoever sends so many means no particular one
			}
		}
	}
}

// offer gives the newest size to who takes them, instead of one that was not taken yet.
func offer(sizes chan maru.TermSize, size maru.TermSize) {
	for {
		select {
		case sizes <- size:
			return
		case <-sizes:
		}
	}
}

func (h *handler) forward(w http.ResponseWriter, r *http.Request) error {
	var in forwardRequest
	if err := decode(r.Body, &in); err != nil {
		return err
	}
	far, err := h.Forwarder.Forward(r.Context(), in.Instance, in.Port)
	if err != nil {
		return err
	}
	conn, buffered, err := hijack(w)
	if err != nil {
		_ = far.Close()
		return nil
	}
	relay(conn, buffered, far)
	return nil
}

// relay copies both ways until both ends are done, and closes them.
func relay(near net.Conn, buffered io.Reader, far net.Conn) {
	defer near.Close()
	defer far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, buffered)
		closeWrite(far)
	}()
	_, _ = io.Copy(near, far)
	closeWrite(near)
	<-done
}

func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
