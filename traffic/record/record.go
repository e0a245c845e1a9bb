// Package record keeps what became of each request in a ring, for whoever wants to know: the access
// log, the judge, telemetry. Requests are recorded at the cost of a copy; readers that fall behind lose
// records, and are told how many, but never make a request wait.
package record

import (
	"net/netip"
	"time"
	"unsafe"

	"github.com/marucloud/maru"
)

// Record is one request, or one connection where a port is carried as it is. What is unknown is empty.
// There is no query in it: people put secrets there.
type Record struct {
	Time     time.Time // when it began
	Door     string    // gateway, mesh, published
	ID       string    // the trace it belongs to
	Client   netip.Addr
	Caller   string         // instance, of a call from service to service
	From     maru.ServiceID // the caller's service
	Protocol string         // HTTP/1.1, HTTP/2.0, HTTP/3.0, tcp
	Method   string
	Scheme   string
	Host     string
	Path     string
	Agent    string
	Status   int // 499: the client went away first
	In, Out  int64
	Duration time.Duration
	Waited   time.Duration // for an endpoint to be there
	Upstream time.Duration // until the response began
	Route    string        // host and path of the route at the gateway
	Service  maru.ServiceID
	Release  int
	Instance string
	Attempts int // instances asked
	Error    string
}

// longestText is how much is kept of each text that others send.
const longestText = 2048

// Clone gives a copy that lasts.
func (r *Record) Clone() Record {
	c := *r
	c.settle(nil)
	return c
}

// settle has the texts that live in memory of the request live in text from now on, and gives that with
// what it needs added. All other texts are the program's or the traffic table's, and last.
func (r *Record) settle(text []byte) []byte {
	own := [...]*string{&r.ID, &r.Method, &r.Scheme, &r.Host, &r.Path, &r.Agent, &r.Route, &r.Error}
	size := 0
	for _, s := range own {
		*s = (*s)[:min(len(*s), longestText)]
		size += len(*s)
	}
	if text = text[:0]; cap(text) < size {
		text = make([]byte, 0, size+size/2)
	}
	for _, s := range own {
		from := len(text)
		text = append(text, *s...)
		*s = unsafe.String(unsafe.SliceData(text[from:]), len(*s))
	}
	return text
}
