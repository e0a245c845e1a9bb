// Package discovery answers names for instances: a caller's address tells whose it is, and it is
// answered only names on networks that it shares. All other names are asked of the host's resolvers.
//
// On a network a service has its name and its aliases, NAME and NAME.APP.internal. Each instance is
// INSTANCE, INSTANCE.NAME and INSTANCE.NAME.APP.internal. A name that exists elsewhere, and one that
// exists nowhere, get the same answer.
package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/traffic/serve"
	"github.com/marucloud/maru/traffic/table"
)

// Config says where names are asked for and who is asked for foreign ones.
type Config struct {
	UDP       []net.PacketConn
	TCP       []net.Listener
	Ranges    maru.Ranges
	Resolvers []netip.AddrPort // while the state names none
	Introduce time.Duration    // how long a caller that nothing is known of yet waits to be known
}

// mostConnections is how many one caller may have open by TCP.
const mostConnections = 64

// Server answers names.
type Server struct {
	cfg   Config
	table *table.Table
	log   *slog.Logger
	up    *upstream
	life  context.Context // of Run
	mu    sync.Mutex
}

// New makes a server. The sockets are its own from here on.
func New(cfg Config, t *table.Table, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, table: t, log: log, life: context.Background()}
	s.up = newUpstream(func() []netip.AddrPort {
		if r := t.Resolvers(); len(r) > 0 {
			return r
		}
		return cfg.Resolvers
	})
	return s
}

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	group, serving := errgroup.WithContext(ctx)
	s.mu.Lock()
	s.life = serving
	s.mu.Unlock()
	var servers []*dns.Server
	for _, pc := range s.cfg.UDP {
		// The time-out would only wake it for nothing: what it reads are datagrams.
		servers = append(servers, &dns.Server{PacketConn: pc, Net: "udp", Handler: s, UDPSize: dns.MaxMsgSize, ReadTimeout: time.Hour})
	}
	limit := serve.NewLimiter(mostConnections)
	for _, l := range s.cfg.TCP {
		servers = append(servers, &dns.Server{Listener: limit.Listener(l), Net: "tcp", Handler: s, MaxTCPQueries: -1, IdleTimeout: func() time.Duration { return 10 * time.Second }})
	}
	for _, server := range servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		group.Go(func() error {
			err := server.ActivateAndServe()
			if err == nil || errors.Is(err, net.ErrClosed) || serving.Err() != nil {
				return nil
			}
			return maru.Errorf(maru.Unavailable, "name server: %w", err)
		})
		group.Go(func() error {
			<-serving.Done()
			select {
			case <-started:
				limit, cancel := context.WithTimeout(context.WithoutCancel(serving), 2*time.Second) // a query takes no longer
				defer cancel()
				_ = server.ShutdownContext(limit)
			default:
				closeSockets(server)
			}
			return nil
		})
	}
	return group.Wait()
}

func closeSockets(server *dns.Server) {
	if server.PacketConn != nil {
		server.PacketConn.Close()
	}
	if server.Listener != nil {
		server.Listener.Close()
	}
}

// ServeDNS answers one query.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	ctx := s.life
	s.mu.Unlock()
	from, udp := sourceOf(w.RemoteAddr())
	answer := s.Answer(ctx, from, udp, q)
	if answer == nil {
		return
	}
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		}
	}
	answer.Truncate(size)
	if err := w.WriteMsg(answer); err != nil {
		s.log.Debug("name answer not sent", "to", from, "error", err)
	}
}

func sourceOf(a net.Addr) (from netip.Addr, udp bool) {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap(), true
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap(), false
	}
	return netip.Addr{}, false
}

// Answer gives the answer to a query from an address; nil for what deserves none.
func (s *Server) Answer(ctx context.Context, from netip.Addr, udp bool, q *dns.Msg) *dns.Msg {
	if q.Response {
		return nil
	}
	if q.Opcode != dns.OpcodeQuery {
		return reply(q, dns.RcodeNotImplemented)
	}
	if len(q.Question) != 1 {
		return reply(q, dns.RcodeFormatError)
	}
	caller, ok := s.table.AwaitCaller(ctx, from, s.cfg.Introduce)
	if !ok {
		return reply(q, dns.RcodeRefused)
	}
	if answer := s.own(caller.Service, q); answer != nil {
		return answer
	}
	if caller.Service.State().Isolated {
		return reply(q, dns.RcodeNameError)
	}
	answer, err := s.up.ask(ctx, from, udp, q)
	if err != nil {
		s.log.Debug("name not resolved", "name", q.Question[0].Name, "error", err)
		return reply(q, dns.RcodeServerFailure)
	}
	return answer
}

// udpSize is what fits a datagram anywhere without being cut up.
const udpSize = 1232

func reply(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, code)
	m.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, false)
	}
	return m
}
