package policy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/message"
)

// cors tells browsers which other sites' pages may use the answers: the CORS protocol of the Fetch
// standard. It answers preflights itself, before anybody is asked for credentials, which those don't have.
type cors struct {
	any         bool            // every origin, without credentials
	origins     map[string]bool // exact
	wild        [][2]string     // what an origin begins and ends with, around a "*"
	methods     []string
	headers     []string
	everyMethod bool
	everyHeader bool
	age         string
	common      message.Header // of every answer to an origin that is allowed
}

// safeMethods need no permission of a preflight, but may be asked for in one.
var safeMethods = []string{"GET", "HEAD", "POST"}

func newCORS(c *maru.CORS, grpcWeb bool) (step, error) {
	if c == nil {
		return nil, nil
	}
	s := &cors{origins: map[string]bool{}, methods: c.Methods, headers: c.Headers}
	exposed := c.Expose
	if grpcWeb {
		s.headers, exposed = slices.Concat(grpcWebHeaders, c.Headers), slices.Concat(grpcWebExposed, c.Expose)
	}
	if len(s.methods) == 0 {
		s.methods = safeMethods
	}
	s.everyMethod, s.everyHeader = slices.Contains(s.methods, "*"), slices.Contains(s.headers, "*")
	for _, origin := range c.Origins {
		before, after, wild := strings.Cut(strings.ToLower(origin), "*")
		switch {
		case origin == "*":
			s.any = true
		case wild:
			s.wild = append(s.wild, [2]string{before, after})
		default:
			s.origins[strings.ToLower(origin)] = true
		}
	}
	if s.any && c.Credentials {
		return nil, maru.Errorf(maru.Invalid, "credentials can't be allowed to every origin")
	}
	if c.Credentials {
		s.common.Add("Access-Control-Allow-Credentials", "true")
	}
	if c.MaxAge > 0 {
		s.age = strconv.Itoa(int(c.MaxAge.Seconds()))
	}
	expose := strings.Join(exposed, ", ")
	return corsWith{s, expose}, nil
}

// corsWith also says which fields of an answer pages may read.
type corsWith struct {
	*cors
	expose string
}

func (s corsWith) take(x *Exchange) *Answer {
	origin := x.Request.Header.Get("Origin")
	asked := x.Request.Header.Get("Access-Control-Request-Method")
	if x.Request.Method == http.MethodOptions && origin != "" && asked != "" {
		return &Answer{Status: http.StatusNoContent, Reason: "preflight", Bare: true, Header: s.preflight(x.Request, origin, asked)}
	}
	x.onBegin(func(r *message.Response) {
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers"} {
			r.Header.Del(name)
		}
		s.allow(&r.Header, origin)
		if s.expose != "" && r.Header.Has("Access-Control-Allow-Origin") {
			r.Header.Add("Access-Control-Expose-Headers", s.expose)
		}
	})
	return nil
}

// allow says whether a page of the origin may use the answer.
func (s *cors) allow(h *message.Header, origin string) {
	if s.any {
		h.Add("Access-Control-Allow-Origin", "*")
		return
	}
	addVary(h, "Origin")
	if origin != "" && s.allows(origin) {
		h.Add("Access-Control-Allow-Origin", origin)
		*h = append(*h, s.common...)
	}
}

func (s *cors) allows(origin string) bool {
	origin = strings.ToLower(origin)
	if s.origins[origin] {
		return true
	}
	return slices.ContainsFunc(s.wild, func(w [2]string) bool {
		rest, ok := strings.CutPrefix(origin, w[0])
		rest, ok2 := strings.CutSuffix(rest, w[1])
		return ok && ok2 && rest != "" && !strings.ContainsAny(rest, "/:@")
	})
}

func (s *cors) preflight(r *message.Request, origin, method string) message.Header {
	var h message.Header
	s.allow(&h, origin)
	addVary(&h, "Access-Control-Request-Method")
	addVary(&h, "Access-Control-Request-Headers")
	if !h.Has("Access-Control-Allow-Origin") {
		return h
	}
	methods := strings.Join(s.methods, ", ")
	if s.everyMethod {
		methods = method
	}
	h.Add("Access-Control-Allow-Methods", methods)
	headers := strings.Join(s.headers, ", ")
	if s.everyHeader {
		headers = r.Header.Get("Access-Control-Request-Headers")
	}
	if headers != "" {
		h.Add("Access-Control-Allow-Headers", headers)
	}
	if s.age != "" {
		h.Add("Access-Control-Max-Age", s.age)
	}
	return h
}

// addVary says that the answer depends on a field of the request.
func addVary(h *message.Header, name string) {
	if !h.HasToken("Vary", name) && !h.HasToken("Vary", "*") {
		h.Add("Vary", name)
	}
}
