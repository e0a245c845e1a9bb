package accesslog

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/record"
)

// AppendJSON appends the record as a JSON object. What is empty is left out.
func AppendJSON(b []byte, e *record.Record) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, '"')
	b = text(b, "door", e.Door)
	b = text(b, "id", e.ID)
	if e.Client.IsValid() {
		b = append(e.Client.AppendTo(append(key(b, "client"), '"')), '"')
	}
	b = text(b, "caller", e.Caller)
	b = service(b, "from", e.From)
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
	b = seconds(b, "waited", e.Waited)
	b = seconds(b, "upstream", e.Upstream)
	b = text(b, "route", e.Route)
	b = service(b, "service", e.Service)
	b = number(b, "release", int64(e.Release))
	b = text(b, "instance", e.Instance)
	b = number(b, "attempts", int64(e.Attempts))
	b = text(b, "error", e.Error)
	return append(b, '}')
}

// AppendCommon appends the record in the Combined Log Format of the Apache HTTP Server, which is the Common
// Log Format with referrer and agent. Maru keeps no referrers, as their queries may hold secrets.
func AppendCommon(b []byte, e *record.Record) []byte {
	if e.Client.IsValid() {
		b = e.Client.AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = e.Time.UTC().AppendFormat(append(b, " - - "...), "[02/Jan/2006:15:04:05 -0700]")
	b = append(b, ` "`...)
	for i, part := range [...]string{e.Method, e.Path, e.Protocol} {
		if i > 0 {
			b = append(b, ' ')
		}
		b = escaped(b, part)
	}
	b = strconv.AppendInt(append(b, `" `...), int64(e.Status), 10)
	b = strconv.AppendInt(append(b, ' '), e.Out, 10)
	b = append(b, ` "-" "`...)
	return append(escaped(b, orDash(e.Agent)), '"')
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// escaped appends a text as Apache does: what could be taken for another field or line is \xHH.
func escaped(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
			continue
		}
		b = append(b, s[i])
	}
	return b
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

// service is text of the name's parts with slashes between them.
func service(b []byte, k string, id maru.ServiceID) []byte {
	if id.Service == "" {
		return b
	}
	var space [256]byte
	v := space[:0]
	for i, p := range [...]string{id.Project, id.Environment, id.App, id.Service} {
		if i > 0 {
			v = append(v, '/')
		}
		v = append(v, p...)
	}
	return text(b, k, v)
}

func text[T string | []byte](b []byte, k string, v T) []byte {
	if len(v) == 0 {
		return b
	}
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
