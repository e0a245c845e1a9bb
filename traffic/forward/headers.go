package forward

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/marucloud/maru/traffic/message"
	"github.com/marucloud/maru/traffic/policy"
	"github.com/marucloud/maru/traffic/trace"
)

// Caller is the header that tells an instance which service calls it, as APP/SERVICE. Nobody but the
// mesh sets it.
const Caller = "X-Maru-Caller"

// forwarding tells whether a header says who asked whom. Those are believed from trusted proxies only.
func forwarding(name string) bool {
	switch len(name) {
	case 9:
		return message.Equal(name, "Forwarded") || message.Equal(name, "X-Real-Ip")
	case 15:
		return message.Equal(name, "X-Forwarded-For")
	case 16:
		return message.Equal(name, "X-Forwarded-Host") || message.Equal(name, "X-Forwarded-Port")
	case 17:
		return message.Equal(name, "X-Forwarded-Proto")
	case 18:
		return message.Equal(name, "X-Forwarded-Server") || message.Equal(name, "X-Forwarded-Prefix")
	}
	return false
}

// Headers that tell a service who its client is, by the certificate that the gateway verified: the
// certificate itself (RFC 9440), and the name in it.
const (
	clientCertificate = "Client-Cert"
	clientSubject     = "X-Maru-Client-Subject"
)

// identity tells whether a header says who the client is. Nobody but the gateway and trusted proxies
// before it sets those.
func identity(name string) bool {
	switch len(name) {
	case 11:
		return message.Equal(name, clientCertificate)
	case 17:
		return message.Equal(name, "Client-Cert-Chain")
	case 21:
		return message.Equal(name, clientSubject)
	}
	return false
}

// outHeader makes the header that endpoints get.
func (x *exchange) outHeader() {
	out := x.header[:0]
	outside := x.call.Door != Mesh
	trusted := outside && x.trusted()
	x.named = connectionTokens(x.r.Header, x.named[:0])
	for _, f := range x.r.Header {
		name := plain(f.Name)
		switch {
		case message.Equal(name, TimeoutField):
			x.left = f.Value
		case message.HopByHop(name), own(name) && !(trusted && identity(name)), outside && !trusted && forwarding(name),
			!trusted && identity(name), named(x.named, f.Name):
		case x.parent != "" && (message.Equal(name, trace.Field) || message.Equal(name, trace.State)):
		case outside && len(name) == len("Cookie") && message.Equal(name, "Cookie") && strings.Contains(f.Value, policy.CookieMark):
			if f.Value = policy.WithoutSessions(f.Value); f.Value != "" {
				out = append(out, f)
			}
		default:
			out = append(out, f)
		}
	}
	if x.trailers {
		out.Add("Te", "trailers")
	}
	if x.upgrade != "" {
		out.Add("Connection", "Upgrade")
		out.Add("Upgrade", x.upgrade)
	} else if x.trailers {
		out.Add("Connection", "TE")
	}
	if x.r.Length < 0 {
		for names := range x.r.Header.Values("Trailer") {
			out.Add("Trailer", names)
		}
	}
	if outside {
		x.setForwarded(&out, trusted)
	}
	if p := x.call.Peer; p != nil {
		out.Del("Client-Cert-Chain")
		out.Set(clientCertificate, p.Certificate)
		out.Set(clientSubject, p.Subject)
	}
	if c := x.call.Caller; c != nil {
		out.Add(Caller, x.join(c.Service.ID.App, "/", c.Service.ID.Service))
	}
	if x.parent != "" {
		out.Add(trace.Field, x.parent)
	}
	if !out.Has("X-Request-Id") {
		out.Add("X-Request-Id", x.entry.ID)
	}
	x.out.Host = x.r.Host
	if x.call.Route != nil {
		for k, v := range x.call.Route.Headers {
			if message.Equal(k, "Host") {
				x.out.Host = v
			} else {
				out.Set(k, v)
			}
		}
	}
	if x.call.Host != "" {
		x.out.Host = x.call.Host
	}
	for _, edit := range x.call.Edits {
		edit.Apply(&out)
	}
	x.header = out
}

// own tells whether a header says something that Maru alone says.
func own(name string) bool {
	const prefix = "X-Maru-"
	return len(name) > len(prefix) && message.Equal(name[:len(prefix)], prefix)
}

// plain gives the name that a header is taken for by those who don't tell "_" from "-", as CGI and
// what descends from it.
func plain(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return strings.ReplaceAll(name, "_", "-")
}

// connectionTokens gives the fields that a message names as those of its connection, besides those
// that are so in any case.
func connectionTokens(h message.Header, named []string) []string {
	for v := range h.Values("Connection") {
		for v != "" {
			var token string
			token, v, _ = strings.Cut(v, ",")
			token = message.Trim(token)
			if token != "" && !message.Equal(token, "close") && !message.HopByHop(token) {
				named = append(named, token)
			}
		}
	}
	return named
}

func named(list []string, name string) bool {
	for _, n := range list {
		if message.Equal(n, name) {
			return true
		}
	}
	return false
}

func (x *exchange) trusted() bool { return x.e.trusts(x.r.Client) }

func (e *Engine) trusts(a netip.Addr) bool {
	for _, p := range e.cfg.Trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Source gives the address of the client whose request it is: behind proxies that are trusted the last one
// in X-Forwarded-For that is not one of them. What stands before it anybody may have written.
func (e *Engine) Source(r *message.Request) netip.Addr {
	source := r.Client
	if !e.trusts(source) {
		return source
	}
	var told []string
	for value := range r.Header.Values("X-Forwarded-For") {
		told = append(told, strings.Split(value, ",")...)
	}
	for _, text := range slices.Backward(told) {
		a, err := parseNode(message.Trim(text))
		if err != nil {
			return source
		}
		if source = a; !e.trusts(a) {
			return source
		}
	}
	return source
}

// parseNode reads an address, which some proxies write with its port.
func parseNode(text string) (netip.Addr, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap(), err
}

func (x *exchange) setForwarded(out *message.Header, trusted bool) {
	client, proto, host := x.r.Name, x.entry.Scheme, x.r.Host
	element := x.join("for=", x.forwardedNode(), ";host=", x.quoted(host), ";proto=", proto)
	if !trusted {
		*out = append(*out,
			message.Field{Name: "X-Forwarded-For", Value: client},
			message.Field{Name: "X-Forwarded-Host", Value: host},
			message.Field{Name: "X-Forwarded-Proto", Value: proto},
			message.Field{Name: "X-Real-Ip", Value: client},
			message.Field{Name: "Forwarded", Value: element})
		return
	}
	appendTo(out, "X-Forwarded-For", client)
	appendTo(out, "Forwarded", element)
	for _, f := range []message.Field{{Name: "X-Forwarded-Host", Value: host}, {Name: "X-Forwarded-Proto", Value: proto}, {Name: "X-Real-Ip", Value: client}} {
		if !out.Has(f.Name) {
			*out = append(*out, f)
		}
	}
}

// appendTo makes one field of those that are there and v behind them.
func appendTo(h *message.Header, name, v string) {
	list := ""
	for have := range h.Values(name) {
		list += have + ", "
	}
	h.Set(name, list+v)
}

func (x *exchange) forwardedNode() string {
	if x.r.Client.Is6() {
		return x.join(`"[`, x.r.Name, `]"`)
	}
	return x.r.Name
}

// quoted gives a host as a Forwarded value: with a port it needs quotes.
func (x *exchange) quoted(s string) string {
	if httpguts.ValidHeaderFieldName(s) {
		return s
	}
	return x.text(func(b []byte) []byte {
		b = append(b, '"')
		for i := range len(s) {
			if s[i] == '"' || s[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[i])
		}
		return append(b, '"')
	})
}

// upgradeOf gives the protocol that a request asks to switch to. HTTP/2 is not one: whoever knows of
// it begins with it, and a switch behind the proxy's back would pass its policy by.
func upgradeOf(r *message.Request) string {
	if r.Upgrade != "" {
		return r.Upgrade
	}
	to := r.Header.Get("Upgrade")
	if to == "" || r.Major != 1 || r.Minor == 0 || r.Body != nil || !r.Header.HasToken("Connection", "Upgrade") ||
		len(to) >= 3 && message.Equal(to[:3], "h2c") {
		return ""
	}
	return to
}

func isGRPC(h message.Header) bool {
	t := h.Get("Content-Type")
	return strings.HasPrefix(t, "application/grpc") && !strings.HasPrefix(t, "application/grpc-web")
}

// traceID gives the trace that a request belongs to, or "".
func traceID(h message.Header) string {
	id, found := "", false
	for v := range h.Values(trace.Field) {
		if found {
			return "" // two parents are none
		}
		id, found = trace.ID(v), true
	}
	return id
}
