package source

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/marucloud/maru"
)

// maxCommands bounds what comes before the pack of a push, bytes.
const maxCommands = 1 << 20

// pushRequest is the beginning of what git push sends (gitprotocol-pack(5), reference update request).
type pushRequest struct {
	updates  []maru.RefUpdate
	options  []string
	sideband bool   // the client shows what comes on the second band
	raw      []byte // what was read
}

// readPush reads up to where the pack begins. Without an update it is a client that tries whether it is let in.
func readPush(body io.Reader) (pushRequest, error) {
	var p pushRequest
	var raw bytes.Buffer
	from := io.TeeReader(&io.LimitedReader{R: body, N: maxCommands}, &raw)
	lines := func(take func(line []byte) error) error {
		for {
			line, flush, err := readLine(from)
			if errors.Is(err, io.EOF) && raw.Len() >= maxCommands {
				return maru.WithHint(maru.Errorf(maru.Exhausted, "the push has too many refs"), "push fewer at once")
			}
			if err != nil || flush {
				return err
			}
			if err := take(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
	}
	var capabilities []string
	err := lines(func(line []byte) error {
		if bytes.HasPrefix(line, []byte("shallow ")) {
			return nil
		}
		if command, rest, ok := bytes.Cut(line, []byte{0}); ok && len(p.updates) == 0 {
			line, capabilities = command, strings.Fields(string(rest))
		}
		update, err := parseUpdate(string(line))
		p.updates = append(p.updates, update)
		return err
	})
	if err == nil && len(p.updates) > 0 && slices.Contains(capabilities, "push-options") {
		err = lines(func(line []byte) error {
			p.options = append(p.options, string(line))
			return nil
		})
	}
	if err != nil {
		return pushRequest{}, maru.Errorf(kindOfRead(err), "read what is pushed: %w", err)
	}
	p.sideband = slices.Contains(capabilities, "side-band-64k")
	p.raw = raw.Bytes()
	return p, nil
}

// hasPack tells whether objects follow: not where refs are only deleted.
func (p pushRequest) hasPack() bool {
	return len(p.updates) == 0 || slices.ContainsFunc(p.updates, func(u maru.RefUpdate) bool { return u.New != "" })
}

// kindOfRead is the kind of an error in reading what a client sends.
func kindOfRead(err error) maru.Kind {
	if kind := maru.KindOf(err); kind != maru.Internal {
		return kind
	}
	return maru.Invalid
}

// parseUpdate reads "OLD NEW REF".
func parseUpdate(line string) (maru.RefUpdate, error) {
	from, rest, _ := strings.Cut(line, " ")
	to, ref, ok := strings.Cut(rest, " ")
	if !ok || !isObjectName(from) || !isObjectName(to) || !strings.HasPrefix(ref, "refs/") || strings.ContainsAny(ref, " \t\x00\n") {
		return maru.RefUpdate{}, maru.Errorf(maru.Invalid, "%.200q is no update of a ref", line)
	}
	return maru.RefUpdate{Ref: ref, Old: notZero(from), New: notZero(to)}, nil
}

func isObjectName(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && (len(text) == 40 || len(text) == 64)
}

// notZero gives "" for the name that stands for no object.
func notZero(name string) string {
	if strings.Trim(name, "0") == "" {
		return ""
	}
	return name
}
