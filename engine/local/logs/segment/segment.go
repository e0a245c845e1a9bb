// Package segment is the form in which an instance's log is on the disk, and the writer of it. It
// runs inside each instance's shim, so it imports the standard library alone.
//
// A log is a folder with segments ATTEMPT-NUMBER.log, which sort in the order in which they were
// written. A segment is text, one record a line, the form that Kubernetes uses too:
//
//	2026-01-02T15:04:05.000000000Z stdout F the line without its end
//
// The time is UTC with all nine digits and never decreases within a segment. The stream is stdout or
// stderr. F ends a line; P says that the line goes on in the next record of the stream. A record
// without its newline is not there yet, or was torn by a crash and is to be skipped. The segment that
// is being written is locked (flock, exclusive) by its writer for as long as it may grow; once it is
// not, it may be replaced by ATTEMPT-NUMBER.log.zst, which holds the same bytes compressed.
package segment

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Stream is what a line was written to.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Record is one line of a segment.
type Record struct {
	Time    time.Time
	Stream  Stream
	Partial bool   // the line goes on in the next record of the stream
	Line    []byte // without its end
}

const (
	timeLayout = "2006-01-02T15:04:05.000000000Z"
	timeSize   = len(timeLayout)

	// HeaderSize is how many bytes of a record come before its line.
	HeaderSize = timeSize + len(" stdout F ")
)

// appendHeader appends all of a record that comes before its line.
func appendHeader(b, stamp []byte, stream Stream, partial bool) []byte {
	b = append(b, stamp...)
	b = append(b, ' ')
	b = append(b, stream...)
	if partial {
		return append(b, " P "...)
	}
	return append(b, " F "...)
}

// Decode reads a record without its newline. What it gives refers to data. It is false for what is
// not a record.
func Decode(data []byte) (Record, bool) {
	if len(data) < HeaderSize {
		return Record{}, false
	}
	at, ok := DecodeTime(data)
	if !ok {
		return Record{}, false
	}
	var r Record
	r.Time = at
	switch string(data[timeSize : timeSize+8]) {
	case " stdout ":
		r.Stream = Stdout
	case " stderr ":
		r.Stream = Stderr
	default:
		return Record{}, false
	}
	switch string(data[timeSize+8 : HeaderSize]) {
	case "F ":
	case "P ":
		r.Partial = true
	default:
		return Record{}, false
	}
	r.Line = data[HeaderSize:]
	return r, true
}

// DecodeTime reads the time that a record begins with.
func DecodeTime(data []byte) (time.Time, bool) {
	if len(data) < timeSize {
		return time.Time{}, false
	}
	d := data[:timeSize]
	if d[4] != '-' || d[7] != '-' || d[10] != 'T' || d[13] != ':' || d[16] != ':' || d[19] != '.' || d[29] != 'Z' {
		return time.Time{}, false
	}
	year, ok0 := digits(d[0:4])
	month, ok1 := digits(d[5:7])
	day, ok2 := digits(d[8:10])
	hour, ok3 := digits(d[11:13])
	minute, ok4 := digits(d[14:16])
	second, ok5 := digits(d[17:19])
	nano, ok6 := digits(d[20:29])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if at.Day() != day || int(at.Month()) != month {
		return time.Time{}, false
	}
	return at, true
}

func digits(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// NewPrefix begins the name of a file that a writer is about to make a segment.
const NewPrefix = ".new-"

// Name names a segment within its folder.
type Name struct {
	Attempt    int
	Number     int // counts the segments of the attempt, from 1
	Compressed bool
}

// String gives the file's name.
func (n Name) String() string {
	if n.Compressed {
		return fmt.Sprintf("%06d-%06d.log.zst", n.Attempt, n.Number)
	}
	return fmt.Sprintf("%06d-%06d.log", n.Attempt, n.Number)
}

// Compare orders by attempt and number.
func (n Name) Compare(o Name) int {
	if n.Attempt != o.Attempt {
		return n.Attempt - o.Attempt
	}
	return n.Number - o.Number
}

// ParseName reads a file's name. It is false for what is not a segment's.
func ParseName(file string) (Name, bool) {
	base, compressed := strings.CutSuffix(file, ".zst")
	base, ok := strings.CutSuffix(base, ".log")
	if !ok {
		return Name{}, false
	}
	a, b, ok := strings.Cut(base, "-")
	if !ok {
		return Name{}, false
	}
	attempt, err1 := strconv.Atoi(a)
	number, err2 := strconv.Atoi(b)
	n := Name{attempt, number, compressed}
	if err1 != nil || err2 != nil || attempt < 1 || number < 1 || n.String() != file {
		return Name{}, false
	}
	return n, true
}
