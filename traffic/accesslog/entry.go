package accesslog

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/marucloud/maru"
)

// Entry is one request, or one connection where a port is carried as it is. What is empty is left out
// of its line. The query of a request is not logged: people put secrets there.
type Entry struct {
	Time     time.Time // when it began
	Door     string    // gateway, mesh, published
	ID       string    // the trace it belongs to
	Client   netip.Addr
	Caller   string // instance, of a call from service to service
	Protocol string // HTTP/1.1, HTTP/2.0, tcp
	Method   string
	Scheme   string
	Host     string
	Path     string
	Agent    string
	Status   int // 499: the client went away first
	In, Out  int64
	Duration time.Duration
	Upstream time.Duration // until the response began
	Service  maru.ServiceID
	Release  int
	Instance string
	Attempts int // instances asked
	Error    string
}

// AppendJSON appends the entry as a JSON object.
func (e *Entry) AppendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = text(b, "door", e.Door)
	b = text(b, "id", e.ID)
	if e.Client.IsValid() {
		b = append(e.Client.AppendTo(append(key(b, "client"), '"')), '"')
	}
	b = text(b, "caller", e.Caller)
	b = text(b, "protocol", e.Protocol)
	b = text(b, "method", e.Method)
	b = text(b, "scheme", e.Scheme)
	b = text(b, "host", e.Host)
	b = text(b, "path", e.Path)
	b = text(b, "agent", e.Agent)
	b = number(b, "status", int64(e.Status))
	b = number(b, "in", e.In)
	b = number(b, "out", e.Out)
	b = seconds(b, "duration", e.Duration)
	b = seconds(b, "upstream", e.Upstream)
	if s := e.Service; s.Service != "" {
		b = join(b, "service", s.Project, s.Environment, s.App, s.Service)
	}
	b = number(b, "release", int64(e.Release))
	b = text(b, "instance", e.Instance)
	b = number(b, "attempts", int64(e.Attempts))
	b = text(b, "error", e.Error)
	return append(b, '}')
}

func key(b []byte, k string) []byte {
	b = append(b, `,"`...)
	b = append(b, k...)
	return append(b, `":`...)
}

func number(b []byte, k string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(key(b, k), n, 10)
}

func seconds(b []byte, k string, d time.Duration) []byte {
	if d == 0 {
		return b
	}
	return strconv.AppendFloat(key(b, k), d.Seconds(), 'f', 6, 64)
}

// join is text of the parts with slashes between them.
func join(b []byte, k string, parts ...string) []byte {
	var space [256]byte
	v := space[:0]
	for i, p := range parts {
		if i > 0 {
			v = append(v, '/')
		}
		v = append(v, p...)
	}
	return text(b, k, v)
}

// longestText is how much is logged of what clients send.
const longestText = 2048

func text[T string | []byte](b []byte, k string, v T) []byte {
	if len(v) == 0 {
		return b
	}
	v = v[:min(len(v), longestText)]
	b = key(b, k)
	for i := range len(v) {
		if c := v[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(string(v))
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, v...)
	return append(b, '"')
}
