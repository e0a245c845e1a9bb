package buildnet

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netns"
)

func netnsHandle(f *os.File) netns.NsHandle { return netns.NsHandle(f.Fd()) }

// hostResolvers is read at each question, so that a change of the host's network reaches long builds.
const hostResolvers = "/etc/resolv.conf"

// answerTime bounds how long one of the host's resolvers is waited for.
const answerTime = 5 * time.Second

// resolver carries a step's questions to the host's resolvers, whatever address they have there, the
// host's loopback included. It looks into nothing that it carries.
type resolver struct {
	log    *slog.Logger
	udp    net.PacketConn
	tcp    net.Listener
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func startResolver(namespace *os.File, log *slog.Logger) (*resolver, error) {
	r := &resolver{log: log}
	address := netip.AddrPortFrom(nameserver, 53).String()
	err := within(namespace, func() (err error) {
		if r.udp, err = net.ListenPacket("udp4", address); err != nil {
			return err
		}
		if r.tcp, err = net.Listen("tcp4", address); err != nil {
			r.udp.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background()) // until close
	r.cancel = cancel
	r.work.Go(func() { r.packets(ctx) })
	r.work.Go(func() { r.streams(ctx) })
	return r, nil
}

func (r *resolver) close() {
	r.cancel()
	r.udp.Close()
	r.tcp.Close()
	r.work.Wait()
}

// inFlight bounds the questions of a step that are open at once.
const inFlight = 256

func (r *resolver) packets(ctx context.Context) {
	slots := make(chan struct{}, inFlight)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := r.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		question := append([]byte(nil), buf[:n]...)
		select {
		case slots <- struct{}{}:
		default:
			continue // it will ask again
		}
		r.work.Go(func() {
			defer func() { <-slots }()
			if answer := r.ask(ctx, question); answer != nil {
				_, _ = r.udp.WriteTo(answer, from)
			}
		})
	}
}

func (r *resolver) ask(ctx context.Context, question []byte) []byte {
	for _, upstream := range resolversIn(hostResolvers) {
		conn, err := r.dial(ctx, "udp", upstream)
		if err != nil {
			continue
		}
		answer := make([]byte, 64<<10)
		_, err = conn.Write(question)
		n := 0
		if err == nil {
			n, err = conn.Read(answer)
		}
		conn.Close()
		if err == nil {
			return answer[:n]
		}
		r.log.Debug("a resolver did not answer a build step", "resolver", upstream, "error", err)
	}
	return nil
}

func (r *resolver) streams(ctx context.Context) {
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return
		}
		r.work.Go(func() {
			defer conn.Close()
			for _, upstream := range resolversIn(hostResolvers) {
				if other, err := r.dial(ctx, "tcp", upstream); err == nil {
					splice(ctx, conn, other)
					return
				}
			}
		})
	}
}

// splice carries both ways until either end is done.
func splice(ctx context.Context, a, b net.Conn) {
	ctx, done := context.WithTimeoutCause(ctx, answerTime, errors.New("no answer in time"))
	defer done()
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	var other sync.WaitGroup
	other.Go(func() {
		_, _ = io.Copy(a, b)
		done()
	})
	_, _ = io.Copy(b, a)
	done()
	other.Wait()
}

func (r *resolver) dial(ctx context.Context, network, upstream string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerTime}
	conn, err := d.DialContext(ctx, network, upstream)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(answerTime))
}

// resolversIn gives the addresses of the name servers in a resolv.conf.
func resolversIn(file string) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			all = append(all, netip.AddrPortFrom(a, 53).String())
		}
	}
	return all
}
