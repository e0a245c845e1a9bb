package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

// startProvider starts the provider on localhost and gives its address, as it calls itself.
func startProvider(t *testing.T, redirect string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)
	storage.RegisterClients(storage.WebClient("shop", "client secret", redirect))
	server := &http.Server{Handler: exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), slog.New(slog.DiscardHandler), false)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return issuer
}

// startGateway starts a proxy at the listener with a service that says who it is told its visitor is.
func startGateway(t *testing.T, l net.Listener, auth *maru.Auth) {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s %s %q", r.Header.Get("X-Maru-User"), r.Header.Get("X-Maru-Email"), r.URL, r.Header["Cookie"])
	}))
	t.Cleanup(service.Close)
	at := netip.MustParseAddrPort(service.Listener.Addr().String())
	p, err := traffic.New(traffic.Config{Listeners: map[string]net.Listener{"http": l}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = p.Update(maru.TrafficUpdate{Version: 1, Full: true, Services: []maru.ServiceTraffic{{
		Service: maru.Scope{Project: "default", Environment: "production", App: "shop"}.Service("web"),
		Ports:   []maru.Port{{Port: at.Port(), Protocol: maru.TCP, App: "http"}}, Secrets: map[string]string{"login": "client secret"},
		Routes:    []maru.Route{{Host: "localhost", Path: "/shop", Policy: &maru.RoutePolicy{Auth: auth}}},
		Endpoints: []maru.Endpoint{{Instance: "a", Release: 1, Addresses: maru.Addresses{V4: at.Addr()}, Ready: true}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel(traffic.ErrNoSuccessor)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

var formID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// logIn opens the page, and fills in the provider's form.
func logIn(t *testing.T, c *http.Client, page, issuer, user string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	res, err := c.Do(r)
	status, form := answer(t, res, err)
	id := formID.FindStringSubmatch(form)
	if status != http.StatusOK || id == nil || !strings.HasPrefix(res.Request.URL.String(), issuer) {
		t.Fatalf("no form: %d at %s: %s", status, res.Request.URL, form)
	}
	res, err = c.PostForm(issuer+"login/username", url.Values{"id": {id[1]}, "username": {user}, "password": {"verysecure"}})
	return answer(t, res, err)
}

func answer(t *testing.T, res *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestLoginAtRealProvider logs two people in, of whom one is let in, and out again.
func TestLoginAtRealProvider(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shop := "http://localhost:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port) + "/shop"
	issuer := startProvider(t, shop+"/.auth/callback")
	startGateway(t, l, &maru.Auth{
		Kind: maru.LoginAuth, Issuer: issuer, Secret: "login", Claim: "preferred_username",
		Login: &maru.Login{Client: "shop", Scopes: []string{"email", "profile", "offline_access"}, Emails: []string{"test-user@zitadel.ch"}},
	})
	browser := func() *http.Client {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Client{Jar: jar}
	}
	c := browser()
	if status, body := logIn(t, c, shop+"/orders?n=1", issuer, "test-user@localhost"); status != 200 || body != `test-user@localhost test-user@zitadel.ch /shop/orders?n=1 []` {
		t.Fatalf("%d %s", status, body)
	}
	res, err := c.Get(shop + "/again")
	if status, body := answer(t, res, err); status != 200 || body != `test-user@localhost test-user@zitadel.ch /shop/again []` {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := logIn(t, browser(), shop, issuer, "test-user2"); status != 403 || !strings.Contains(body, "test-user2@zitadel.ch") {
		t.Fatalf("%d %s", status, body)
	}
	res, err = c.Get(shop + "/.auth/logout")
	if status, body := answer(t, res, err); status != 200 || !strings.HasPrefix(res.Request.URL.String(), issuer) {
		t.Fatalf("%d at %s: %s", status, res.Request.URL, body)
	}
	res, err = c.Get(shop)
	if status, _ := answer(t, res, err); status != 401 {
		t.Error("after the logout:", status)
	}
}
