package quic

import (
	"bytes"
	"crypto/rand"

	"github.com/quic-go/quic-go"
)

const (
	tagSize = 4
	idSize  = 12
)

// tag begins the IDs of a process's connections (RFC 9000, 5.1), so that whoever reads the socket sees whose
// a packet is.
type tag [tagSize]byte

func newTag() (t tag) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// on tells whether a packet is for a connection with the tag (RFC 8999, 5: where the ID is does not depend on
// the version).
func (t tag) on(data []byte) bool {
	const long = 0x80
	switch {
	case len(data) < 1+idSize:
		return false
	case data[0]&long == 0:
		return bytes.Equal(data[1:1+tagSize], t[:])
	}
	return len(data) >= 6+idSize && data[5] == idSize && bytes.Equal(data[6:6+tagSize], t[:])
}

// GenerateConnectionID makes the ID of a connection.
func (t tag) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [idSize]byte
	_, _ = rand.Read(id[copy(id[:], t[:]):]) // never fails
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen is the length of all of them.
func (t tag) ConnectionIDLen() int { return idSize }
