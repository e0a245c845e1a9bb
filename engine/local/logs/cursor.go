package logs

import (
	"strconv"
	"strings"

	"github.com/marucloud/maru"
)

// position is a place in an instance's log, before a record.
type position struct {
	Attempt int
	Number  int   // of the segment
	Offset  int64 // in the segment, uncompressed
}

func (p position) before(o position) bool {
	if p.Attempt != o.Attempt {
		return p.Attempt < o.Attempt
	}
	if p.Number != o.Number {
		return p.Number < o.Number
	}
	return p.Offset < o.Offset
}

// String gives the position as a cursor.
func (p position) String() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendInt(b, int64(p.Attempt), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(p.Number), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, p.Offset, 10))
}

func parseCursor(s string) (position, error) {
	parts := strings.Split(s, ".")
	if len(parts) == 3 {
		attempt, err1 := strconv.Atoi(parts[0])
		number, err2 := strconv.Atoi(parts[1])
		offset, err3 := strconv.ParseInt(parts[2], 10, 64)
		p := position{attempt, number, offset}
		if err1 == nil && err2 == nil && err3 == nil && attempt >= 0 && number >= 0 && offset >= 0 && p.String() == s {
			return p, nil
		}
	}
	return position{}, maru.Errorf(maru.Invalid, "%q is not a log cursor", s)
}
