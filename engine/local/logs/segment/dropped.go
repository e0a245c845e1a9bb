package segment

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
)

// dropped counts what could not be written.
type dropped struct {
	lines, bytes int64
	why          string
}

func (d *dropped) add(records []byte, err error) {
	lines := int64(bytes.Count(records, []byte{'\n'}))
	d.lines += lines
	d.bytes += int64(len(records)) - lines*int64(HeaderSize)
	d.why = reason(err)
}

// reason leaves out the file's name.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// record tells of the loss in the log itself.
func (d dropped) record(stamp []byte) []byte {
	b := appendHeader(nil, stamp, Stderr, false)
	return fmt.Appendf(b, "maru: %d lines (%d bytes) were dropped here: %s\n", d.lines, d.bytes, d.why)
}
