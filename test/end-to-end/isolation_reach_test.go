package endtoend

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/marucloud/maru"
)

const neighbours = `
name: NAME
services:
  web:
    image: example.test/service:1
    environment: {VERSION: NAME, TCP: ":9000", UDP: ":9001"}
    expose: ["8080", "9000", "9001/udp"]
    x-maru: {route: NAME.localhost, health: /healthz}
  db:
    image: example.test/service:1
    environment: {VERSION: NAME, TCP: ":9000", UDP: ":9001"}
    expose: ["8080", "9000", "9001/udp"]
`

// object asks a service behind a host, and reads the JSON that it answers with.
func object[T any](t *testing.T, m *machine, host, path string) T {
	t.Helper()
	var value T
	code, body := m.get(t, host, path)
	if err := json.Unmarshal([]byte(body), &value); code != 200 || err != nil {
		t.Fatalf("%s%s: %d %s", host, path, code, body)
	}
	return value
}

// reach asks an instance which addresses answer it.
func (m *machine) reach(t *testing.T, host string, addresses ...string) map[string]bool {
	t.Helper()
	return object[map[string]bool](t, m, host, "/reach?"+url.Values{"address": addresses}.Encode())
}

// everyPort names the ports of the test service at the addresses, over TCP and UDP.
func everyPort(addresses ...string) []string {
	var all []string
	for _, address := range addresses {
		for _, port := range []string{"8080", "9000"} {
			all = append(all, "tcp:"+net.JoinHostPort(address, port))
		}
		all = append(all, "udp:"+net.JoinHostPort(address, "9001"))
	}
	return all
}

func TestIsolationOfAppsFromEachOther(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	for _, name := range []string{"red", "blue"} {
		m.deploy(t, strings.ReplaceAll(neighbours, "NAME", name))
	}
	own := object[[]string](t, m, "red.localhost", "/resolve?name=db")
	for address, reached := range m.reach(t, "red.localhost", everyPort(own...)...) {
		if !reached {
			t.Errorf("red does not reach its own database at %s", address)
		}
	}
	foreign := object[[]string](t, m, "blue.localhost", "/resolve?name=db")
	foreign = append(foreign, object[[]string](t, m, "blue.localhost", "/resolve?name=web")...)
	for _, service := range []string{"db", "web"} {
		for _, one := range m.status(t, "blue").Of(service).Instances {
			foreign = append(foreign, one.AddressV4)
		}
	}
	for _, address := range m.addressesOf(t, "blue.localhost") {
		if !slices.Contains(foreign, address) {
			foreign = append(foreign, address)
		}
	}
	if !slices.ContainsFunc(foreign, func(a string) bool { return strings.Contains(a, ":") }) {
		t.Error("no instance has an address of IPv6")
	}
	for address, reached := range m.reach(t, "red.localhost", everyPort(foreign...)...) {
		if reached {
			t.Errorf("red reaches blue at %s", address)
		}
	}
	for _, name := range []string{"db.blue.internal", "web.blue.internal", "db.blue", "blue", "blue.internal"} {
		if code, body := m.get(t, "red.localhost", "/resolve?name="+name); code == 200 {
			t.Errorf("red resolves %s: %s", name, body)
		}
	}
}

// addressesOf gives the addresses that an instance has, but for its loopback.
func (m *machine) addressesOf(t *testing.T, host string) []string {
	t.Helper()
	var addresses []string
	for _, one := range object[[]net.IPNet](t, m, host, "/addresses") {
		if one.IP.IsGlobalUnicast() {
			addresses = append(addresses, one.IP.String())
		}
	}
	return addresses
}

// hostServer listens on all addresses of the machine and counts who comes.
type hostServer struct {
	tcp      net.Listener
	udp      net.PacketConn
	contacts atomic.Int64
}

func newHostServer(t *testing.T) *hostServer {
	t.Helper()
	tcp, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &hostServer{tcp: tcp, udp: udp}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			s.contacts.Add(1)
			conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			s.contacts.Add(1)
			udp.WriteTo([]byte("here"), from)
		}
	}()
	return s
}

func (s *hostServer) ports() (tcp, udp string) {
	_, tcp, _ = net.SplitHostPort(s.tcp.Addr().String())
	_, udp, _ = net.SplitHostPort(s.udp.LocalAddr().String())
	return tcp, udp
}

// giveHost gives the machine an address on a link of its own, as it has on its network, until the test ends.
func giveHost(t *testing.T, name string, addresses ...string) {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(link) })
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		address.Flags = 0x02 // no duplicate address detection
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
	}
	peer, err := netlink.LinkByName(name + "p")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []netlink.Link{link, peer} {
		if err := netlink.LinkSetUp(one); err != nil {
			t.Fatal(err)
		}
	}
}

// listening gives the ports that processes of this machine listen on.
func listening(t *testing.T) []string {
	t.Helper()
	var ports []string
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprint(port); !slices.Contains(ports, text) {
				ports = append(ports, text)
			}
		}
	}
	return ports
}

func TestIsolationFromTheHost(t *testing.T) {
	giveHost(t, "host0", "192.0.2.7/24", "2001:db8::7/64", "169.254.169.254/32")
	m := start(t)
	m.LoadImage(t)
	m.deploy(t, strings.ReplaceAll(neighbours, "NAME", "red"))
	server := newHostServer(t)
	tcp, udp := server.ports()
	ports := listening(t)
	if len(ports) < 3 {
		t.Fatalf("only %v are listened on", ports)
	}
	inside := m.addressesOf(t, "red.localhost")
	hosts := []string{"192.0.2.7", "2001:db8::7", "169.254.169.254"}
	hosts = append(hosts, m.gateways(t)...)
	var forbidden []string
	for _, host := range hosts {
		for _, port := range ports {
			forbidden = append(forbidden, "tcp:"+net.JoinHostPort(host, port))
		}
		forbidden = append(forbidden, "udp:"+net.JoinHostPort(host, udp))
	}
	loopback := []string{"tcp:127.0.0.1:" + tcp, "tcp:[::1]:" + tcp, "udp:127.0.0.1:" + udp, "tcp:127.0.0.1:6278", "tcp:127.7.7.7:" + tcp}
	forbidden = append(forbidden, loopback...)
	for address, reached := range m.reach(t, "red.localhost", forbidden...) {
		_, port, _ := net.SplitHostPort(address[4:])
		if reached && !slices.Contains(openPorts, port) {
			t.Errorf("an instance with %v reaches the host at %s", inside, address)
		}
	}
	if n := server.contacts.Load(); n != 0 {
		t.Errorf("a server of the host heard of the instance %d times", n)
	}
	if conn, err := net.DialTimeout("tcp", "192.0.2.7:"+tcp, time.Second); err != nil {
		t.Errorf("the host does not reach its own server: %v", err)
	} else {
		conn.Close()
	}
}

// gateways gives the machine's addresses as instances see them: those of the name servers.
func (m *machine) gateways(t *testing.T) []string {
	t.Helper()
	_, body := m.get(t, "red.localhost", "/file?path=/etc/resolv.conf")
	var found []string
	for line := range strings.Lines(body) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "nameserver" {
			found = append(found, fields[1])
		}
	}
	if len(found) == 0 {
		t.Fatalf("no name server in %s", body)
	}
	return found
}

// openPorts are those that the proxy serves instances on: names, and the mesh, which knows its callers.
var openPorts = []string{"53", strconv.Itoa(maru.MeshPort)}

func TestIsolationOfForgedAddresses(t *testing.T) {
	m := start(t)
	m.LoadImage(t)
	m.maru(t, "grant", "cap:NET_RAW")
	forger := strings.ReplaceAll(neighbours, "NAME", "red")
	forger = strings.Replace(forger, "  web:\n", "  web:\n    cap_add: [NET_RAW]\n", 1)
	m.deploy(t, forger)
	var targets []string
	for _, text := range object[[]string](t, m, "red.localhost", "/resolve?name=db") {
		targets = append(targets, net.JoinHostPort(text, "9001"))
	}
	targets = append(targets, net.JoinHostPort(m.status(t, "red").Of("db").Instances[0].AddressV4, "9001"))
	for _, target := range targets {
		address := netip.MustParseAddrPort(target).Addr()
		attempt, source := "spoof4", "203.0.113.9"
		if address.Is6() {
			attempt, source = "spoof6", "2001:db8:9::9"
		}
		// Sending may succeed; nothing of it may arrive.
		_, errors, code := m.try(t, "exec", "--app", "red", "-T", "web", "/service", "try", attempt, target, source)
		t.Logf("%s to %s: %d %s", attempt, target, code, strings.TrimSpace(errors))
	}
	for _, address := range targets {
		if code, body := m.get(t, "red.localhost", "/ask?network=udp&say=honest&address="+url.QueryEscape(address)); code != 200 {
			t.Errorf("%s does not answer an honest datagram: %d %s", address, code, body)
		}
	}
	out := m.maru(t, "logs", "--app", "red", "db")
	if !strings.Contains(out, "datagram honest") {
		t.Errorf("the honest datagrams are not logged:\n%s", out)
	}
	if strings.Contains(out, "datagram spoofed") {
		t.Errorf("a datagram with a forged source arrived:\n%s", out)
	}
}
