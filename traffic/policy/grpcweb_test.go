package policy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/marucloud/maru/traffic/http1"
	"github.com/marucloud/maru/traffic/message"
)

// plainBody is a request's body out of memory.
type plainBody struct{ io.Reader }

func (plainBody) Buffered() (int, bool)   { return 0, false }
func (plainBody) Cut()                    {}
func (plainBody) Trailer() message.Header { return nil }

// FuzzTextBody: what was encoded in parts is decoded whole, however it comes, and what is not base64 is an error.
func FuzzTextBody(f *testing.F) {
	f.Add([]byte("hello, world"), uint8(5), []byte("!"))
	f.Add([]byte{}, uint8(0), []byte("AA=A"))
	f.Add(bytes.Repeat([]byte("x"), 10_000), uint8(7), []byte("AAAA"))
	f.Fuzz(func(t *testing.T, data []byte, size uint8, raw []byte) {
		var encoded []byte
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			encoded = base64.StdEncoding.AppendEncode(encoded, rest[:n])
			rest = rest[n:]
		}
		for _, r := range []io.Reader{bytes.NewReader(encoded), iotest.OneByteReader(bytes.NewReader(encoded)), iotest.DataErrReader(bytes.NewReader(encoded))} {
			got, err := io.ReadAll(&textBody{RequestBody: plainBody{r}})
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%q in parts of %d: %q %v", data, size, got, err)
			}
		}
		got, err := io.ReadAll(&textBody{RequestBody: plainBody{bytes.NewReader(raw)}})
		var malformed *http1.Error
		if err != nil && !errors.As(err, &malformed) {
			t.Fatal(err)
		}
		if again, fails := base64.StdEncoding.Strict().DecodeString(string(raw)); fails == nil && !bytes.ContainsAny(raw, "\r\n") && (err != nil || !bytes.Equal(again, got)) {
			t.Fatalf("%q: %q %v", raw, got, err)
		}
	})
}
