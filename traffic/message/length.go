package message

import "math"

// ParseLength reads the value of a Content-Length field, which is of digits alone (RFC 9110, 8.6).
func ParseLength(s string) (n int64, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, s != ""
}
