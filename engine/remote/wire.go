package remote

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/marucloud/maru"
)

// failure is an error on the wire.
type failure struct {
	Kind    maru.Kind `json:"kind"`
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"`
}

func toFailure(err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{maru.KindOf(err), err.Error(), maru.HintOf(err)}
}

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return maru.WithHint(maru.Errorf(f.Kind, "%s", f.Message), f.Hint)
}

// line is one line of a stream: a value, or the error that ends it.
type line[T any] struct {
	Value *T       `json:"value,omitempty"`
	Error *failure `json:"error,omitempty"`
	End   bool     `json:"end,omitempty"` // the stream is complete; without it the other side died
}

// frameKind is what a frame of an exec connection carries.
type frameKind byte

const (
	frameStdin frameKind = iota + 1
	frameStdinEnd
	frameSize
	frameStdout
	frameStderr
	frameExit
	frameCredit
	frameSignal
)

// maxFrame bounds a frame's payload, in bytes.
const maxFrame = 64 << 10

// frames writes frames to one connection. It is safe for concurrent use.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) write(kind frameKind, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		piece := payload[:min(len(payload), maxFrame)]
		payload = payload[len(piece):]
		frame := make([]byte, 5+len(piece))
		frame[0] = byte(kind)
		binary.BigEndian.PutUint32(frame[1:], uint32(len(piece)))
		copy(frame[5:], piece)
		if _, err := f.w.Write(frame); err != nil {
			return err
		}
		if len(payload) == 0 {
			return nil
		}
	}
}

// writer gives a writer whose data becomes frames of the kind.
func (f *frames) writer(kind frameKind) io.Writer { return frameWriter{f, kind} }

type frameWriter struct {
	frames *frames
	kind   frameKind
}

func (w frameWriter) Write(data []byte) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	if err := w.frames.write(w.kind, data); err != nil {
		return 0, err
	}
	return len(data), nil
}

var errFrame = errors.New("malformed frame")

func readFrame(r io.Reader) (frameKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] < byte(frameStdin) || head[0] > byte(frameSignal) || length > maxFrame {
		return 0, nil, fmt.Errorf("%w: kind %d, %d bytes", errFrame, head[0], length)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	return frameKind(head[0]), payload, nil
}

// exit is the last frame of an exec connection.
type exit struct {
	Code  int      `json:"code"`
	Error *failure `json:"error,omitempty"`
}

// execRequest begins an exec connection.
type execRequest struct {
	Instance string           `json:"instance"`
	Command  maru.ExecCommand `json:"command"`
	Stdin    bool             `json:"stdin"`
	Sized    bool             `json:"sized"`
}

type forwardRequest struct {
	Instance string `json:"instance"`
	Port     uint16 `json:"port"`
}

type removeRequest struct {
	Workload maru.WorkloadID `json:"workload"`
}

type drainedRequest struct {
	Instance string `json:"instance"`
}

type saveRequest struct {
	References []string `json:"references"`
}

type volumeRequest struct {
	Volume maru.VolumeID `json:"volume"`
}

type pullRequest struct {
	Reference string           `json:"reference"`
	Options   maru.PullOptions `json:"options"`
}

// pullStep is one line of a pull: how far it is, or the image.
type pullStep struct {
	Progress *maru.PullProgress `json:"progress,omitempty"`
	Image    *maru.Image        `json:"image,omitempty"`
}

type imageRequest struct {
	Reference string `json:"reference"`
}

type pruneRequest struct {
	Keep []string `json:"keep"`
}

func decode(r io.Reader, into any) error {
	if err := json.NewDecoder(r).Decode(into); err != nil {
		return maru.Errorf(maru.Invalid, "read request: %w", err)
	}
	return nil
}
