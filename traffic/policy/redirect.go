package policy

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// redirect sends clients elsewhere. The place is always told with scheme and host, so that no path can be
// taken for a host.
type redirect struct {
	scheme, host, port string
	path               replacement
	status             int
}

func newRedirect(r *maru.Redirect, prefix string) (step, error) {
	if r == nil {
		return nil, nil
	}
	path, err := newReplacement(r.Path, r.Prefix, prefix)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]int{301, 302, 303, 307, 308}, r.Code()) {
		return nil, maru.Errorf(maru.Invalid, "%d is no status of a redirect", r.Status)
	}
	s := redirect{scheme: r.Scheme, host: r.Host, path: path, status: r.Code()}
	if r.Port != 0 {
		s.port = strconv.Itoa(int(r.Port))
	}
	return s, nil
}

func (s redirect) take(x *Exchange) *Answer {
	target := s.path.target(x.Request)
	if target == "" {
		target = x.Request.Target
	}
	if target == "*" {
		target = ""
	}
	location := s.origin(x.Request) + target
	return &Answer{
		Status: s.status, Reason: "redirected", Bare: true,
		Header: message.Header{{Name: "Location", Value: location}},
	}
}

// origin gives scheme, host and port. Unless another scheme is asked for, the request's port stays.
func (s redirect) origin(r *message.Request) string {
	scheme, host, port := r.Scheme, message.HostName(r.Host), s.port
	if i := strings.LastIndexByte(r.Host, ':'); port == "" && i > strings.LastIndexByte(r.Host, ']') {
		port = r.Host[i+1:]
	}
	if s.scheme != "" && s.scheme != scheme {
		scheme, port = s.scheme, s.port
	}
	if s.host != "" {
		host = s.host
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
