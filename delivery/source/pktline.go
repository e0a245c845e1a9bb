package source

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/marucloud/maru"
)

// Lines of the protocol are counted (gitprotocol-common(5), pkt-line): four hexadecimal digits give the length
// with themselves; "0000" is a flush, which ends a part.
const (
	lengthSize = 4
	longest    = 65520
)

// Bands of an answer (gitprotocol-pack(5), sideband): the first byte of a line.
const (
	dataBand     = 1
	progressBand = 2
	errorBand    = 3
)

// readLine gives the next line without its length; flush: it is one.
func readLine(r io.Reader) (line []byte, flush bool, err error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil || n > longest || n > 0 && n < lengthSize:
		return nil, false, maru.Errorf(maru.Invalid, "%q is no length of a line of Git's protocol", head[:])
	case n == 0:
		return nil, true, nil
	}
	line = make([]byte, n-lengthSize)
	if _, err := io.ReadFull(r, line); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	return line, false, nil
}

// appendLine adds a line of the parts.
func appendLine(to []byte, parts ...[]byte) []byte {
	n := lengthSize
	for _, p := range parts {
		n += len(p)
	}
	to = fmt.Appendf(to, "%04x", n)
	for _, p := range parts {
		to = append(to, p...)
	}
	return to
}

// flushLine ends a part.
const flushLine = "0000"
