package forward

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/marucloud/maru/traffic/message"
)

//go:embed page.html
var pageSource string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Parse(pageSource))
})

// page gives the failure as HTML to browsers, as JSON to those who accept it, as text to all others.
func (f Failure) page(request message.Header, id string) (contentType string, body []byte) {
	var b bytes.Buffer
	switch preferred(request) {
	case "text/html":
		if err := pageTemplate().Execute(&b, struct {
			Failure
			ID string
		}{f, id}); err == nil {
			return "text/html; charset=utf-8", b.Bytes()
		}
		b.Reset()
	case "application/json":
		answer, err := json.Marshal(struct {
			Error   string `json:"error"`
			Hint    string `json:"hint"`
			Status  int    `json:"status"`
			Request string `json:"request"`
		}{f.What, f.Do, f.Status, id})
		if err == nil {
			return "application/json", append(answer, '\n')
		}
	}
	fmt.Fprintf(&b, "%d %s\n%s\n%s\nRequest: %s\n", f.Status, f.Title, f.What, f.Do, id)
	return "text/plain; charset=utf-8", b.Bytes()
}

// preferred gives the form that the client likes best of those there are; "" for text.
func preferred(request message.Header) string {
	best, form := 0.0, ""
	for line := range request.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			if strings.HasSuffix(kind, "+json") {
				kind = "application/json"
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			if err != nil {
				q = 1
			}
			if q > best && (kind == "text/html" || kind == "application/json" || kind == "text/plain") {
				best, form = q, kind
			}
		}
	}
	if form == "" && strings.Contains(request.Get("Content-Type"), "json") {
		return "application/json"
	}
	return form
}

// gRPC's status codes for what Maru answers.
var grpcCode = map[int]string{
	http.StatusBadRequest:         "13", // internal
	http.StatusForbidden:          "7",  // permission denied
	http.StatusUnauthorized:       "16", // unauthenticated
	http.StatusNotFound:           "12", // unimplemented
	http.StatusTooManyRequests:    "14", // unavailable, as gRPC's own mapping has it
	http.StatusBadGateway:         "14", // unavailable
	http.StatusServiceUnavailable: "14",
	http.StatusGatewayTimeout:     "4", // deadline exceeded
}

// failGRPC answers with a status alone, in the header, as gRPC does when no message was sent.
func (x *exchange) failGRPC(f Failure) {
	a := &x.answer
	code, ok := grpcCode[f.Status]
	if !ok {
		code = "2" // unknown
	}
	a.Status = http.StatusOK
	a.Header.Add("Cache-Control", "no-store")
	a.Header.Add("Content-Type", "application/grpc")
	a.Header.Add("Grpc-Status", code)
	a.Header.Add("Grpc-Message", percentEncoded(f.What+" "+f.Do))
}

func percentEncoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
