package endtoend

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const door = `
name: door
services:
  web:
    image: example.test/service:1
    environment: {VERSION: one}
    x-maru:
      health: /healthz
      route:
        - {host: keys.localhost, auth: {keys: callers}, quota: 2/month}
        - {host: limited.localhost, limit: 1/h}
        - {host: asked.localhost, auth: {forward: gate}}
        - {host: shut.localhost, auth: {forward: {service: gate, path: "/file?path=/nothing"}}}
        - {host: moved.localhost, redirect: {host: new.localhost, path: /there, status: 308}}
        - {host: edited.localhost, path: /shop, strip: true, response: {set: {X-From: edited}}, cors: "https://example.com"}
        - {host: rewritten.localhost, rewrite: {path: /env}}
        - {host: away.localhost, maintenance: we are painting}
        - {host: small.localhost, max_body: 10b}
        - {host: inside.localhost, addresses: {allow: 192.0.2.0/24}}
  gate:
    image: example.test/service:1
    expose: ["8080"]
secrets:
  callers: {external: true}
`

// TestGatewayPolicies sends requests through the real proxy to routes that do more than lead on.
func TestGatewayPolicies(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	const key = "a-key-of-sufficient-length"
	m.maru(t, "secret", "set", "callers", "--app", "door", "--from", writeFile(t, "ann "+key+"\n"))
	m.deploy(t, door)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		name, method, host, path, body string
		header                         map[string]string
		status                         int
		want                           string            // in the body
		answer                         map[string]string // fields of the answer
	}{
		{name: "without a key", host: "keys", status: 401},
		{name: "with a key", host: "keys", header: map[string]string{"X-Api-Key": key, "X-Maru-User": "eve"}, status: 200, want: `"user":"ann"`},
		{name: "within the quota", host: "keys", header: map[string]string{"X-Api-Key": key}, status: 200},
		{name: "beyond the quota", host: "keys", header: map[string]string{"X-Api-Key": key}, status: 429},
		{name: "within the limit", host: "limited", status: 200},
		{name: "beyond the limit", host: "limited", status: 429},
		{name: "let in by another service", host: "asked", status: 200, want: `"version":"one"`},
		{name: "turned away by another service", host: "shut", status: 404, want: "no such file"},
		{name: "redirect", host: "moved", path: "?q=1", status: 308, answer: map[string]string{"Location": "http://new.localhost:" + portOf(m.HTTP) + "/there?q=1"}},
		{name: "edits", host: "edited", path: "shop/", header: map[string]string{"Origin": "https://example.com"}, status: 200, want: `"path":"/"`,
			answer: map[string]string{"X-From": "edited", "Access-Control-Allow-Origin": "https://example.com"}},
		{name: "rewrite", host: "rewritten", path: "?name=VERSION", status: 200, want: "one"},
		{name: "maintenance", host: "away", status: 503, want: "we are painting"},
		{name: "large body", host: "small", method: "PUT", path: "file?path=/tmp/x", body: "more than ten bytes", status: 413},
		{name: "small body", host: "small", method: "PUT", path: "file?path=/tmp/x", body: "few", status: 200},
		{name: "address", host: "inside", status: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+m.HTTP+"/"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = c.host + ".localhost:" + portOf(m.HTTP)
			for name, value := range c.header {
				request.Header.Set(name, value)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("answered %s (wanted %d), %v: %s", response.Status, c.status, err, body)
			}
			for name, value := range c.answer {
				if got := response.Header.Get(name); got != value {
					t.Errorf("%s: %q, wanted %q", name, got, value)
				}
			}
		})
	}
	if out := m.maru(t, "routes", "explain", "http://away.localhost/", "--app", "door"); !strings.Contains(out, "maintenance") {
		t.Errorf("explained as %s", out)
	}
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
