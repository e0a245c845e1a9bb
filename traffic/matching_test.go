package traffic_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/marucloud/maru"
)

// named is a service of that name which answers with its name and what it was asked for.
func named(t *testing.T, name string, routes ...maru.Route) maru.ServiceTraffic {
	s := web(startInstance(t, name, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, name, " ", r.RequestURI)
	})))
	s.Service, s.Routes = shop.Service(name), routes
	return s
}

// spell sends a request as it is spelled, with a line for each header, and gives the answer.
func (w *world) spell(method, host, target string, header ...string) (*http.Response, string) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: " + host, "Connection: close"}, header...)
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(body)
}

func TestRoutesByMatch(t *testing.T) {
	w := newWorld(t, nil)
	w.set(
		named(t, "plain", maru.Route{Host: "a.test"}),
		named(t, "beta", maru.Route{Host: "a.test", Match: &maru.RouteMatch{Headers: map[string]string{"X-Beta": "1"}}}),
		named(t, "posts", maru.Route{Host: "a.test", Match: &maru.RouteMatch{Methods: []string{"POST", "PUT"}}}),
		named(t, "query", maru.Route{Host: "a.test", Match: &maru.RouteMatch{Query: map[string]string{"v": "2"}}}),
		named(t, "version", maru.Route{Host: "a.test", Path: "/version", Exact: true}),
		named(t, "long", maru.Route{Host: "a.test", Path: "/long", Match: &maru.RouteMatch{Methods: []string{"GET"}}}),
	)
	for _, c := range []struct{ method, target, header, want string }{
		{"GET", "/", "X-Other: 1", "plain /"},
		{"GET", "/", "x-beta: 1", "beta /"},
		{"GET", "/", "X-Beta: 2", "plain /"},
		{"POST", "/", "X-Beta: 1", "posts /"},
		{"GET", "/?v=2", "X-Beta: 1", "beta /?v=2"},
		{"GET", "/?u&v=2", "X-Other: 1", "query /?u&v=2"},
		{"GET", "/version", "X-Beta: 1", "version /version"},
		{"GET", "/version/", "X-Beta: 1", "beta /version/"},
		{"GET", "/long/x", "X-Beta: 1", "long /long/x"},
		{"DELETE", "/long/x", "X-Beta: 1", "beta /long/x"},
	} {
		if _, body := w.spell(c.method, "a.test", c.target, c.header); body != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.method, c.target, c.header, body, c.want)
		}
	}
	if p := w.Report().Problems; len(p) != 0 {
		t.Error(p)
	}
}

// TestNoWayAround spells a guarded path in every way that has led around a gateway's rules somewhere.
func TestNoWayAround(t *testing.T) {
	w := newWorld(t, nil)
	w.set(named(t, "open", maru.Route{Host: "a.test"}), named(t, "guard", maru.Route{Host: "a.test", Path: "/admin"}))
	for target, want := range map[string]string{
		"/admin":            "guard /admin",
		"/admin/x":          "guard /admin/x",
		"/x/../admin":       "guard /admin",
		"/x/%2e%2E/admin":   "guard /admin",
		"/./admin/.":        "guard /admin/",
		"//admin":           "guard //admin",
		"/%61dmin":          "guard /%61dmin",
		"/admin/../x":       "open /x",
		"/administer":       "open /administer",
		"/x%2Fy":            "open /x%2Fy",
		"/admin/x%2fy?a=%2": "guard /admin/x%2fy?a=%2",
		"/x%252fadmin":      "open /x%252fadmin",
		"/?p=/../admin":     "open /?p=/../admin",
	} {
		if _, body := w.spell("GET", "a.test", target); body != want {
			t.Errorf("%s leads to %q, want %q", target, body, want)
		}
	}
	for _, target := range []string{
		"/admin%2Fx", "/x%2F..%2Fadmin", "/x/..%2fadmin", "/x%5c..%5cadmin", `/x\..\admin`, "/%2Fadmin", "/..;/admin", "/x/..;a/admin",
		"/x//../admin", "/admin%00",
	} {
		if res, body := w.spell("GET", "a.test", target); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s is answered %d %q", target, res.StatusCode, body)
		}
	}
}
