package remote

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

func FuzzReadFrame(f *testing.F) {
	var seed bytes.Buffer
	out := &frames{w: &seed}
	for _, kind := range []frameKind{frameStdin, frameStdinEnd, frameSize, frameStdout, frameStderr, frameExit, frameCredit} {
		if err := out.write(kind, []byte(`{"rows":24}`)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(seed.Bytes())
	f.Add(binary.BigEndian.AppendUint32([]byte{byte(frameStdin)}, maxFrame+1))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var again bytes.Buffer
		for {
			kind, payload, err := readFrame(r)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errFrame) {
					t.Fatal(err)
				}
				break
			}
			if len(payload) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(payload))
			}
			if err := (&frames{w: &again}).write(kind, payload); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatal("what was read is not what was there")
		}
	})
}
