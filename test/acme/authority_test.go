package acme_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// authority is Pebble, Let's Encrypt's own ACME server for tests, in this process.
type authority struct {
	directory string
	roots     []byte // of its own server, in PEM
	server    *httptest.Server
	down      bool
	orders    int
	mu        sync.Mutex
	ca        *ca.CAImpl
}

// startAuthority looks at hosts on those ports of the addresses that the name server gives. Certificates are
// valid for that many seconds; 0: 90 days.
func startAuthority(t *testing.T, httpPort, tlsPort int, names *nameServer, seconds uint64, binding bool) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "20") // every fifth request has to be made again
	out := log.New(t.Output(), "pebble ", 0)
	if !testing.Verbose() {
		out.SetOutput(discard{})
	}
	store := db.NewMemoryStore()
	a := &authority{ca: ca.New(out, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: seconds}})}
	if binding {
		if err := store.AddExternalAccountKeyByID("kid-1", base64.RawURLEncoding.EncodeToString([]byte("a key of thirty-two bytes or more"))); err != nil {
			t.Fatal(err)
		}
	}
	looks := va.New(out, httpPort, tlsPort, true, names.address, store)
	front := wfe.New(out, store, looks, a.ca, []string{"pebble.test"}, true, binding, 1, 1)
	handler := front.Handler()
	a.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		down := a.down
		if strings.Contains(r.URL.Path, "order-plz") {
			a.orders++
		}
		a.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(a.server.Close)
	a.directory = a.server.URL + "/dir"
	a.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
	return a
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (a *authority) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// root gives the certificate that clients of the gateway have to trust.
func (a *authority) root() *tls.Config {
	return &tls.Config{RootCAs: pool(a.ca.GetRootCert(0).PEM()), MinVersion: tls.VersionTLS12}
}

// nameServer leads every name to 127.0.0.1, and has TXT records that are changed by dynamic updates signed
// with a key.
type nameServer struct {
	address string
	mu      sync.Mutex
	txt     map[string][]string
	updates int
	nowhere map[string]bool
}

const (
	updateKey    = "update."
	updateSecret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ=="
)

func startNames(t *testing.T) *nameServer {
	t.Helper()
	n := &nameServer{txt: map[string][]string{}, nowhere: map[string]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.address = l.Addr().String()
	pc, err := net.ListenPacket("udp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: l}, {PacketConn: pc}} {
		s.Handler, s.TsigSecret = n, map[string]string{updateKey: updateSecret}
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.ShutdownContext(context.Background()) })
	}
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(r)
	defer func() { _ = w.WriteMsg(m) }()
	if r.Opcode == dns.OpcodeUpdate {
		if r.IsTsig() == nil || w.TsigStatus() != nil {
			m.Rcode = dns.RcodeRefused
			return
		}
		n.updates++
		for _, rr := range r.Ns {
			if txt, ok := rr.(*dns.TXT); ok && rr.Header().Class == dns.ClassNONE {
				delete(n.txt, strings.ToLower(txt.Hdr.Name))
			} else if ok {
				name := strings.ToLower(txt.Hdr.Name)
				n.txt[name] = append(n.txt[name], txt.Txt...)
			}
		}
		m.SetTsig(updateKey, dns.HmacSHA256, 300, int64(r.IsTsig().TimeSigned))
		return
	}
	n.answer(m, r.Question[0])
}

func (n *nameServer) answer(m *dns.Msg, q dns.Question) {
	name := strings.ToLower(q.Name)
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	switch {
	case n.nowhere[name]:
		m.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)}}
	case q.Qtype == dns.TypeSOA && name == "example.com.":
		m.Answer = []dns.RR{&dns.SOA{Hdr: head, Ns: "ns.example.com.", Mbox: "x.example.com."}}
	case q.Qtype == dns.TypeTXT:
		for _, value := range n.txt[name] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{value}})
		}
	}
}
