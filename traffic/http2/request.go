package http2

import (
	"net/http"

	"github.com/marucloud/maru/traffic/message"
)

// longestTarget is what is taken of a target.
const longestTarget = 32 << 10

// pseudo are the fields that say what is asked (RFC 9113, 8.3.1; RFC 8441, 4).
type pseudo struct{ method, scheme, authority, path, protocol string }

// take takes them from the front of a header, and gives how many there are.
func (p *pseudo) take(fields message.Header) (int, error) {
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		var to *string
		switch name {
		case ":method":
			to = &p.method
		case ":scheme":
			to = &p.scheme
		case ":authority":
			to = &p.authority
		case ":path":
			to = &p.path
		case ":protocol":
			to = &p.protocol
		default:
			return i, nil // one that nobody knows is no valid name of a field either
		}
		if *to != "" || value == "" && name != ":authority" {
			return 0, errMalformed
		}
		*to = value
	}
	return len(fields), nil
}

// check tells whether the fields are there that the method asks for.
func (p *pseudo) check() error {
	connect := p.method == http.MethodConnect
	switch {
	case p.method == "" || !all(&isToken, p.method):
		return errMalformed
	case connect && p.protocol == "":
		if p.scheme != "" || p.path != "" || p.authority == "" {
			return errMalformed
		}
	case p.protocol != "" && (!connect || p.authority == "" || !all(&isToken, p.protocol)):
		return errMalformed
	case p.scheme == "" || p.path == "":
		return errMalformed
	case p.scheme != "http" && p.scheme != "https":
		return &refusal{http.StatusBadRequest, "Of schemes, only http and https are known here."}
	}
	return nil
}

// asked is what a header says of its request besides the fields that are passed on.
type asked struct {
	pseudo
	hosts  int
	host   string
	length int64 // -1: not said
	expect string
	cookie int // place of the cookies; -1: none
}

// parse makes a request of a header. Its strings are the decoder's, and last.
func (a *asked) parse(fields message.Header, r *message.Request) error {
	*a = asked{length: -1, cookie: -1}
	n, err := a.take(fields)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return err
	}
	r.Header = r.Header[:0]
	for _, f := range fields[n:] {
		if !validName(f.Name) || !validValue(f.Value) {
			return errMalformed
		}
		keep, err := a.special(f, r)
		if err != nil {
			return err
		}
		if keep {
			r.Header = append(r.Header, f)
		}
	}
	r.Major, r.Minor, r.Method, r.Upgrade = 2, 0, a.method, ""
	if err := a.hostOf(r); err != nil {
		return err
	}
	return a.targetOf(r)
}

// special takes note of a field that is about more than the request; keep tells whether it is passed on too.
func (a *asked) special(f message.Field, r *message.Request) (keep bool, err error) {
	switch f.Name {
	case "host":
		a.hosts++
		a.host = f.Value
		return false, nil
	case "content-length":
		n, ok := message.ParseLength(f.Value)
		if !ok || a.length >= 0 {
			return false, errMalformed
		}
		a.length = n
		return false, nil
	case "expect":
		a.expect = f.Value
		return false, nil
	case "te":
		if !message.Equal(f.Value, "trailers") {
			return false, errMalformed
		}
	case "cookie":
		// By HTTP/1.1 they are in one field: RFC 9113, 8.2.3.
		if a.cookie >= 0 {
			r.Header[a.cookie].Value += "; " + f.Value
			return false, nil
		}
		a.cookie = len(r.Header)
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return false, errMalformed
	}
	return true, nil
}

// hostOf sees that there is one host. A Host field that says another than the authority is how caches and
// rules are got around (RFC 9113, 8.3.1).
func (a *asked) hostOf(r *message.Request) error {
	switch {
	case a.hosts > 1, a.hosts == 1 && a.authority != "" && a.host != a.authority:
		return errMalformed
	case a.authority == "":
		a.authority = a.host
	}
	if !message.ValidHost(a.authority) {
		return &refusal{http.StatusBadRequest, "The request's authority is malformed."}
	}
	r.Host = a.authority
	return nil
}

func (a *asked) targetOf(r *message.Request) error {
	switch {
	case a.path == "": // CONNECT
		r.Target, r.Path = a.authority, ""
		return nil
	case len(a.path) > longestTarget:
		return &refusal{http.StatusRequestURITooLong, "The request's target is too long."}
	case a.path == "*" && a.method == http.MethodOptions:
		r.Target, r.Path = a.path, a.path
		return nil
	case a.path[0] != '/', !message.ValidTarget(a.path):
		return errMalformed
	}
	path, ok := message.DecodePath(a.path)
	if !ok {
		return &refusal{http.StatusBadRequest, "The request's target has a malformed percent-encoding."}
	}
	r.Target, r.Path = a.path, path
	return nil
}
