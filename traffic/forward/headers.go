package forward

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Caller is the header that tells an instance which service calls it, as APP/SERVICE. Nobody but the
// mesh sets it.
const Caller = "X-Maru-Caller"

// hopByHop are headers of one connection, not of the request.
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true,
	"Proxy-Authorization": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// forwarding headers say who asked whom. They are believed from trusted proxies only.
var forwarding = map[string]bool{
	"Forwarded": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true,
	"X-Forwarded-Port": true, "X-Forwarded-Server": true, "X-Forwarded-Prefix": true, "X-Real-Ip": true,
}

// outHeader makes the header that endpoints get. Values are shared with the client's header, as
// nobody changes them in place.
func (x *exchange) outHeader() http.Header {
	in := x.r.Header
	out := make(http.Header, len(in)+8)
	named := connectionTokens(in)
	outside := x.call.Door != Mesh
	trusted := outside && x.trusted()
	for k, v := range in {
		name := plain(k)
		if hopByHop[name] || name == Caller || outside && !trusted && forwarding[name] || named[k] {
			continue
		}
		out[k] = v
	}
	if httpguts.HeaderValuesContainsToken(in["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if x.upgrade != "" {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{x.upgrade}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // or the transport would set its own
	}
	if outside {
		x.setForwarded(out, trusted)
	}
	if c := x.call.Caller; c != nil {
		out[Caller] = []string{c.Service.ID.App + "/" + c.Service.ID.Service}
	}
	if x.parent != "" {
		out["Traceparent"] = []string{x.parent}
		delete(out, "Tracestate")
	}
	if _, ok := out["X-Request-Id"]; !ok {
		out["X-Request-Id"] = []string{x.entry.ID}
	}
	if x.call.Route != nil {
		for k, v := range x.call.Route.Headers {
			out.Set(k, v)
		}
	}
	return out
}

// plain gives the name that a header is taken for by those who don't tell "_" from "-", as CGI and
// what descends from it.
func plain(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

func connectionTokens(h http.Header) map[string]bool {
	var named map[string]bool
	for _, v := range h["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if token = strings.TrimSpace(token); token != "" && !strings.EqualFold(token, "close") && !strings.EqualFold(token, "keep-alive") && !strings.EqualFold(token, "upgrade") {
				if named == nil {
					named = map[string]bool{}
				}
				named[http.CanonicalHeaderKey(token)] = true
			}
		}
	}
	return named
}

func (x *exchange) trusted() bool {
	for _, p := range x.e.cfg.Trusted {
		if p.Contains(x.client) {
			return true
		}
	}
	return false
}

func (x *exchange) setForwarded(out http.Header, trusted bool) {
	client, proto, host := x.client.String(), x.entry.Scheme, x.r.Host
	element := "for=" + forwardedNode(x.client) + ";host=" + quoted(host) + ";proto=" + proto
	if !trusted {
		out["X-Forwarded-For"] = []string{client}
		out["X-Forwarded-Host"] = []string{host}
		out["X-Forwarded-Proto"] = []string{proto}
		out["X-Real-Ip"] = []string{client}
		out["Forwarded"] = []string{element}
		return
	}
	out["X-Forwarded-For"] = []string{appendList(out["X-Forwarded-For"], client)}
	out["Forwarded"] = []string{appendList(out["Forwarded"], element)}
	for k, v := range map[string]string{"X-Forwarded-Host": host, "X-Forwarded-Proto": proto, "X-Real-Ip": client} {
		if _, ok := out[k]; !ok {
			out[k] = []string{v}
		}
	}
}

func appendList(have []string, v string) string {
	return strings.Join(append(have[:len(have):len(have)], v), ", ")
}

func forwardedNode(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}

// quoted gives a host as a Forwarded value: with a port it needs quotes.
func quoted(s string) string {
	if httpguts.ValidHeaderFieldName(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// upgradeOf gives the protocol that a request asks to switch to. HTTP/2 is not one: whoever knows of
// it begins with it, and a switch behind the proxy's back would pass its policy by.
func upgradeOf(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	to := h.Get("Upgrade")
	if strings.HasPrefix(strings.ToLower(to), "h2c") {
		return ""
	}
	return to
}

func isGRPC(h http.Header) bool {
	t := h.Get("Content-Type")
	return strings.HasPrefix(t, "application/grpc") && !strings.HasPrefix(t, "application/grpc-web")
}

// stripPrefix takes a route's path from the front of a request's.
func stripPrefix(u *url.URL, prefix string) {
	prefix = strings.TrimRight(prefix, "/")
	cut := func(path, prefix string) (string, bool) {
		rest, ok := strings.CutPrefix(path, prefix)
		if !ok || rest != "" && rest[0] != '/' {
			return path, false
		}
		if rest == "" {
			rest = "/"
		}
		return rest, true
	}
	rest, ok := cut(u.Path, prefix)
	if !ok {
		return
	}
	raw, okRaw := cut(u.RawPath, prefix)
	if !okRaw {
		raw, okRaw = cut(u.RawPath, (&url.URL{Path: prefix}).EscapedPath())
	}
	if !okRaw {
		raw = ""
	}
	u.Path, u.RawPath = rest, raw
}

// newTrace begins a trace for a request that belongs to none, so that what it causes can be found by
// the id that the access log and the pages show.
func newTrace() (id, parent string) {
	var b [24]byte
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rand.Uint64())
	}
	b[0] |= 1 // all zeros would not be valid
	b[16] |= 1
	id = hex.EncodeToString(b[:16])
	return id, "00-" + id + "-" + hex.EncodeToString(b[16:]) + "-01"
}

// traceID gives the trace of a valid traceparent header, or "".
func traceID(h http.Header) string {
	values := h["Traceparent"]
	if len(values) != 1 {
		return ""
	}
	v := values[0]
	if len(v) < 55 || len(v) > 55 && (v[:2] == "00" || v[55] != '-') || v[2] != '-' || v[35] != '-' || v[52] != '-' ||
		v[:2] == "ff" || !lowerHex(v[:2]) || !lowerHex(v[3:35]) || !lowerHex(v[36:52]) || !lowerHex(v[53:55]) ||
		v[3:35] == strings.Repeat("0", 32) || v[36:52] == strings.Repeat("0", 16) {
		return ""
	}
	return v[3:35]
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// HostOf gives the host name of a request in lower case, without its port.
func HostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}
