package traffic_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru"
)

// startEcho is an instance that speaks no HTTP: it repeats what it is told, with its name, when its
// client has said all.
func startEcho(t testing.TB, id string) *instance {
	t.Helper()
	i := &instance{id: id, addr: freshAddress()}
	i.l = listen(t, netip.AddrPortFrom(i.addr, port).String())
	go func() {
		for {
			c, err := i.l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				all, _ := io.ReadAll(c)
				fmt.Fprintf(c, "%s: %s", id, all)
			}()
		}
	}()
	i.stop = func() { i.l.Close() }
	t.Cleanup(i.stop)
	return i
}

func tell(t testing.TB, address, what string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, what); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(c)
	return string(all), err
}

func raw(name string, hostPort uint16, instances ...*instance) maru.ServiceTraffic {
	s := web(instances...)
	s.Service, s.Routes = shop.Service(name), nil
	s.VirtualAddress = maru.Addresses{}
	s.Ports[0].App = "tcp"
	s.Publish = []maru.PublishedPort{{HostIP: "127.0.0.1", HostPort: hostPort, Target: maru.Port{Port: port, Protocol: maru.TCP}}}
	return s
}

func TestPublishedTCP(t *testing.T) {
	w := newWorld(t, nil)
	host := freePort(t, netip.MustParseAddr("127.0.0.1"))
	at := fmt.Sprintf("127.0.0.1:%d", host)
	a, b := startEcho(t, "a"), startEcho(t, "b")
	w.set(raw("store", host, a))
	eventually(t, "port is open", func() bool { got, err := tell(t, at, "x"); return err == nil && got == "a: x" })
	large := strings.Repeat("y", 3<<20)
	if got, err := tell(t, at, large); err != nil || got != "a: "+large {
		t.Fatal(len(got), err)
	}
	// An endpoint that refuses is passed over.
	s := raw("store", host, a, b)
	w.set(s)
	a.stop()
	for range 20 {
		if got, err := tell(t, at, "x"); got != "b: x" {
			t.Fatal(got, err)
		}
	}
	// The first one who asks for a host port has it, until it lets go.
	c := startEcho(t, "c")
	w.set(raw("late", host, c))
	eventually(t, "conflict is told", func() bool {
		p := w.Report().Problems
		return len(p) == 1 && p[0].Service.Service == "late" && p[0].What == "host port "+at+"/tcp" && strings.Contains(p[0].Why, "shop/store")
	})
	if got, err := tell(t, at, "x"); got != "b: x" {
		t.Fatal(got, err)
	}
	s.Publish = nil
	w.set(s)
	if got, err := tell(t, at, "x"); got != "c: x" {
		t.Fatal(got, err)
	}
	eventually(t, "conflict is over", func() bool { return len(w.Report().Problems) == 0 })
	if err := w.Update(maru.TrafficUpdate{Version: w.version.Add(1), Removed: []maru.ServiceID{shop.Service("late")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "port is closed", func() bool { _, err := tell(t, at, "x"); return err != nil })
}

func TestPublishedPortIsTaken(t *testing.T) {
	w := newWorld(t, nil)
	l := listen(t, "127.0.0.1:0")
	host := uint16(l.Addr().(*net.TCPAddr).Port)
	w.set(raw("store", host, startEcho(t, "a")))
	eventually(t, "told", func() bool {
		p := w.Report().Problems
		return len(p) == 1 && strings.Contains(p[0].Why, "address already in use") && strings.Contains(p[0].Why, "choose another port")
	})
	l.Close()
	eventually(t, "solved by itself", func() bool { return len(w.Report().Problems) == 0 })
	if got, err := tell(t, l.Addr().String(), "x"); got != "a: x" {
		t.Fatal(got, err)
	}
}

// TestPublishedHTTP is balanced by request, although it is one connection.
func TestPublishedHTTP(t *testing.T) {
	w := newWorld(t, nil)
	host := freePort(t, netip.MustParseAddr("127.0.0.1"))
	s := web(startInstance(t, "a", say("a")), startInstance(t, "b", say("b")))
	s.Publish = []maru.PublishedPort{{HostIP: "127.0.0.1", HostPort: host, Target: maru.Port{Port: port, Protocol: maru.TCP}}}
	s.Balance.Policy = maru.RoundRobin
	w.set(s)
	url := fmt.Sprintf("http://127.0.0.1:%d/", host)
	dials := 0
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}}
	eventually(t, "port is open", func() bool {
		res, err := client.Get(url)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return err == nil
	})
	dials = 0
	got := map[string]int{}
	for range 50 {
		res, err := client.Get(url)
		_, body := text(t, res, err)
		got[body]++
	}
	if dials != 0 || got["a"] == 0 || got["b"] == 0 {
		t.Fatal(dials, got)
	}
}

func TestPublishedUDP(t *testing.T) {
	w := newWorld(t, nil)
	start := func(id string) *instance {
		i := &instance{id: id, addr: freshAddress()}
		pc, err := net.ListenPacket("udp", netip.AddrPortFrom(i.addr, port).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = pc.WriteTo(append([]byte(id+": "), buf[:n]...), from)
			}
		}()
		return i
	}
	a, b := start("a"), start("b")
	host := freePort(t, netip.MustParseAddr("127.0.0.1"))
	s := raw("names", host, a)
	s.Ports[0].Protocol, s.Publish[0].Target.Protocol = maru.UDP, maru.UDP
	w.set(s)
	ask := func(c net.Conn, what []byte) (answer string) {
		buf := make([]byte, 64<<10)
		eventually(t, "answered", func() bool { // datagrams may get lost, and at first the port is not open
			_, _ = c.Write(what)
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			n, err := c.Read(buf)
			answer = string(buf[:n])
			return err == nil
		})
		return answer
	}
	dial := func() net.Conn {
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", host))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	one, two := dial(), dial()
	if got := ask(one, []byte("x")); got != "a: x" {
		t.Fatal(got)
	}
	large := bytes.Repeat([]byte("z"), 60000)
	if got := ask(two, large); got != "a: "+string(large) {
		t.Fatal(len(got))
	}
	// The endpoint drains: the next datagram goes to the other one.
	s.Endpoints[0].Draining = true
	s.Endpoints = append(s.Endpoints, b.endpoint(2))
	w.set(s)
	if got := ask(one, []byte("x")); got != "b: x" {
		t.Fatal(got)
	}
}
