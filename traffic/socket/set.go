package socket

import (
	"net"
	"os"

	"github.com/marucloud/maru"
)

// Set is sockets in use, by name.
type Set struct {
	Listeners map[string]net.Listener
	Packets   map[string]net.PacketConn
}

// Add takes over a file that [Open] gave, under the name of its [Spec].
func (s *Set) Add(name string, f *os.File) error {
	switch Kind(name) {
	case HTTP, HTTPS, Mesh, DNSTCP:
		l, err := Listener(f)
		if err != nil {
			return err
		}
		if s.Listeners == nil {
			s.Listeners = map[string]net.Listener{}
		}
		s.Listeners[name] = l
	case DNSUDP:
		pc, err := Packets(f)
		if err != nil {
			return err
		}
		if s.Packets == nil {
			s.Packets = map[string]net.PacketConn{}
		}
		s.Packets[name] = pc
	default:
		f.Close()
		return maru.Errorf(maru.Invalid, "socket %q is none of a proxy's", name)
	}
	return nil
}

// Close closes all of them.
func (s *Set) Close() {
	for _, l := range s.Listeners {
		l.Close()
	}
	for _, pc := range s.Packets {
		pc.Close()
	}
}
