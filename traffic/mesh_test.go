package traffic_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic"
)

func TestMeshPolicy(t *testing.T) {
	w := newWorld(t, nil)
	var caller string
	callee := web(startInstance(t, "web-1-a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		caller = r.Header.Get("X-Maru-Caller")
		fmt.Fprint(rw, "hello")
	})))
	service := func(name, network string) (maru.ServiceTraffic, netip.Addr) {
		addr := freshAddress()
		return maru.ServiceTraffic{
			Service: shop.Service(name), Networks: map[string][]string{network: {name}},
			Endpoints: []maru.Endpoint{{Instance: name + "-1", Addresses: maru.Addresses{V4: addr}}},
		}, addr
	}
	friend, friendAddr := service("friend", "default/production/shop/default")
	stranger, strangerAddr := service("stranger", "default/production/shop/other")
	w.set(callee, friend, stranger)
	to := netip.AddrPortFrom(callee.VirtualAddress.V4, port)
	ask := func(from netip.Addr) (int, string) {
		r, _ := http.NewRequest("GET", "http://web:8080/", http.NoBody)
		r.Header.Set("X-Maru-Caller", "bank/admin")
		res, err := w.callFrom(from, to).Do(r)
		return text(t, res, err)
	}
	if status, body := ask(friendAddr); status != 200 || body != "hello" || caller != "shop/friend" {
		t.Errorf("friend: %d %s, caller %s", status, body, caller)
	}
	if status, body := ask(strangerAddr); status != 403 || !strings.Contains(body, "does not accept calls from stranger") {
		t.Errorf("stranger: %d %s", status, body)
	}
	callee.Allow = []string{"gateway"}
	w.set(callee)
	if status, _ := ask(friendAddr); status != 403 {
		t.Errorf("friend that is not named: %d", status)
	}
	// An address that nobody has gets no answer at all.
	if answer, err := w.callFrom(freshAddress(), to).Get("http://web:8080/"); err == nil {
		answer.Body.Close()
		t.Error("somebody unknown was answered")
	}
}

// TestMeshPermits: a caller that may make some calls only is refused the others, which are logged with who and why.
func TestMeshPermits(t *testing.T) {
	log := &syncBuffer{}
	w := newWorld(t, func(cfg *traffic.Config) { cfg.AccessLog = log })
	callee := web(startInstance(t, "web-1-a", say("hello")))
	callee.Allow = []string{"friend", "gateway"}
	callee.AllowCalls = map[string][]maru.CallRule{
		"friend":  {{Methods: []string{"GET"}, Paths: []string{"/api"}}},
		"gateway": {{Paths: []string{"/public"}}},
	}
	from := freshAddress()
	w.set(callee, maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: callee.Networks,
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: from}}},
	})
	client := w.callFrom(from, netip.AddrPortFrom(callee.VirtualAddress.V4, port))
	for path, want := range map[string]int{"GET /api/x": 200, "POST /api/x": 403, "GET /admin": 403, "GET /api/../admin": 403} {
		method, target, _ := strings.Cut(path, " ")
		r := &http.Request{Method: method, URL: &url.URL{Scheme: "http", Host: "web:8080", Opaque: target}}
		res, err := client.Do(r)
		if status, body := text(t, res, err); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for path, want := range map[string]int{"/public": 200, "/api/x": 403} {
		res, err := http.DefaultClient.Do(w.request("GET", "web.test", path))
		if status, body := text(t, res, err); status != want {
			t.Errorf("gateway: %s: %d %s", path, status, body)
		}
	}
	c, err := w.dialFrom(t.Context(), from, netip.AddrPortFrom(callee.VirtualAddress.V4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x16\x03\x01 not http")); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Errorf("what is not HTTP was answered: %q", got)
	}
	w.stop()
	for _, want := range []string{
		`"caller":"friend-1","from":"default/production/shop/friend","protocol":"HTTP/1.1","method":"POST","scheme":"http","host":"web:8080","path":"/api/x"`,
		`"error":"friend may not call web with POST /api/x"`, `"error":"friend may call web by HTTP only"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("not logged: %s", want)
		}
	}
}

// TestMeshTunnel speaks something else on a port that is said to speak HTTP.
func TestMeshTunnel(t *testing.T) {
	w := newWorld(t, nil)
	addr := freshAddress()
	l := listen(t, netip.AddrPortFrom(addr, port).String())
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c) // until the client has sent all it has
				_, _ = c.Write(bytes.ToUpper(all))
			}()
		}
	}()
	callee := web()
	callee.Endpoints = []maru.Endpoint{{Instance: "web-1", Release: 1, Ready: true, Addresses: maru.Addresses{V4: addr}}}
	from := freshAddress()
	friend := maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: callee.Networks,
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: from}}},
	}
	w.set(callee, friend)
	c, err := w.dialFrom(t.Context(), from, netip.AddrPortFrom(callee.VirtualAddress.V4, port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\x16\x03\x01 not http")); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "\x16\x03\x01 NOT HTTP" {
		t.Fatalf("%q %v", got, err)
	}
}

// TestMeshByRequest sends gRPC calls of one connection between services to both instances.
func TestMeshByRequest(t *testing.T) {
	w := newWorld(t, nil)
	callee := web(startGRPC(t, "a"), startGRPC(t, "b"))
	callee.Ports[0].App = "grpc"
	from := freshAddress()
	w.set(callee, maru.ServiceTraffic{
		Service: shop.Service("friend"), Networks: callee.Networks,
		Endpoints: []maru.Endpoint{{Instance: "friend-1", Addresses: maru.Addresses{V4: from}}},
	})
	dials := 0
	conn, err := grpc.NewClient("passthrough:///web:8080", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			dials++
			return w.dialFrom(ctx, from, netip.AddrPortFrom(callee.VirtualAddress.V4, port))
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				out := new(wrapperspb.StringValue)
				if err := conn.Invoke(t.Context(), "/test.Echo/Once", wrapperspb.String("hi"), out); err != nil || out.Value != "you said hi" {
					t.Error(out, err)
				}
			}
		})
	}
	wg.Wait()
	if dials != 1 {
		t.Errorf("%d connections", dials)
	}
}
