package forward

import (
	"cmp"
	"strconv"
	"time"
)

// TimeoutField tells an instance how many milliseconds its caller waits yet. An instance that passes it on
// with the calls it makes for a request has them end with that.
const TimeoutField = "X-Maru-Timeout-Ms"

// grpcTimeout is gRPC's own.
const grpcTimeout = "Grpc-Timeout"

// mostTimeout is more than anybody waits.
const mostTimeout = 1000 * time.Hour

// setDeadline takes the time that the request is given: the route's or else the service's, or what its
// caller has left if that is less, and tells it.
func (x *exchange) setDeadline() {
	x.timeout = cmp.Or(x.call.Timeout, x.call.Service.State().Timeout)
	if x.left != "" { // a number that is none costs memory
		if ms, err := strconv.ParseUint(x.left, 10, 32); err == nil {
			x.timeout = sooner(x.timeout, time.Duration(ms)*time.Millisecond)
		}
	}
	if x.grpc {
		if d, ok := parseGRPCTimeout(x.r.Header.Get(grpcTimeout)); ok {
			x.timeout = sooner(x.timeout, d)
		}
	}
	if x.timeout <= 0 {
		return
	}
	ms := x.text(func(b []byte) []byte { return strconv.AppendInt(b, max(1, x.timeout.Milliseconds()), 10) })
	x.header.Add(TimeoutField, ms)
	if x.grpc {
		x.header.Set(grpcTimeout, x.join(ms, "m"))
	}
}

// sooner gives the shorter of two times, of which limit 0 is none. One that is over is very short.
func sooner(limit, d time.Duration) time.Duration {
	d = min(max(d, time.Millisecond), mostTimeout)
	if limit > 0 {
		return min(limit, d)
	}
	return d
}

// parseGRPCTimeout reads a time as gRPC has it: up to 8 digits and a unit.
func parseGRPCTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	if n > uint64(mostTimeout/unit) {
		return mostTimeout, true
	}
	return time.Duration(n) * unit, true
}
