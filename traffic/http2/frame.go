package http2

import "encoding/binary"

// Types of frames (RFC 9113, 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9
)

// Flags of frames.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113, 6.5.2; RFC 8441, 3).
const (
	settingTableSize       = 0x1
	settingPush            = 0x2
	settingStreams         = 0x3
	settingWindow          = 0x4
	settingFrameSize       = 0x5
	settingHeaderListSize  = 0x6
	settingExtendedConnect = 0x8
)

const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	headSize      = 9
	frameSize     = 16 << 10 // most that is taken of one frame, and sent in one
	mostFrameSize = 1<<24 - 1
	firstWindow   = 1<<16 - 1
	mostWindow    = 1<<31 - 1
	lastStream    = 1<<31 - 1
)

// frame is a frame's head (RFC 9113, 4.1).
type frame struct {
	length int
	kind   byte
	flags  byte
	stream uint32
}

func (f frame) has(flag byte) bool { return f.flags&flag != 0 }

func parseHead(p []byte) frame {
	return frame{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]), kind: p[3], flags: p[4],
		stream: binary.BigEndian.Uint32(p[5:]) & lastStream,
	}
}

func appendHead(b []byte, f frame) []byte {
	b = append(b, byte(f.length>>16), byte(f.length>>8), byte(f.length), f.kind, f.flags)
	return binary.BigEndian.AppendUint32(b, f.stream)
}

func appendReset(b []byte, stream uint32, c Code) []byte {
	b = appendHead(b, frame{length: 4, kind: frameReset, stream: stream})
	return binary.BigEndian.AppendUint32(b, uint32(c))
}

func appendWindowUpdate(b []byte, stream uint32, n int) []byte {
	b = appendHead(b, frame{length: 4, kind: frameWindowUpdate, stream: stream})
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // of a window
}

func appendGoAway(b []byte, last uint32, c Code) []byte {
	b = appendHead(b, frame{length: 8, kind: frameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(c))
}

func appendPing(b []byte, flags byte, data []byte) []byte {
	b = appendHead(b, frame{length: 8, kind: framePing, flags: flags})
	return append(b, data[:8]...)
}

func appendSettings(b []byte, list ...[2]uint32) []byte {
	b = appendHead(b, frame{length: 6 * len(list), kind: frameSettings})
	for _, s := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(s[0])) //nolint:gosec // a setting's number
		b = binary.BigEndian.AppendUint32(b, s[1])
	}
	return b
}
