package quic

import (
	"bytes"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/marucloud/maru/internal/sockets"
)

// holder keeps one descriptor by name, as a supervisor does.
func holder(t *testing.T) Holder {
	files := map[string]*os.File{}
	t.Cleanup(func() {
		for _, f := range files {
			f.Close()
		}
	})
	return Holder{
		Keep: func(name string, f *os.File) (err error) {
			files[name], err = sockets.Duplicate(f, name)
			return err
		},
		Kept: func(name string) (*os.File, error) {
			if f := files[name]; f != nil {
				return sockets.Duplicate(f, name)
			}
			return nil, nil
		},
	}
}

func open(t *testing.T, pc *net.UDPConn, h Holder) *Socket {
	t.Helper()
	s, err := Open(pc, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func again(t *testing.T, pc *net.UDPConn) *net.UDPConn {
	t.Helper()
	f, err := pc.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return other.(*net.UDPConn)
}

// short is a packet for a connection, as they are after the handshake.
func short(t *testing.T, s *Socket, text string) []byte {
	t.Helper()
	id, err := s.tag.GenerateConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]byte{0x40}, id.Bytes()...), text...)
}

// reads gives what a socket reads, one packet after the other.
func reads(s *Socket) <-chan string {
	out := make(chan string, 100)
	go func() {
		ms := make([]ipv4.Message, 8)
		for i := range ms {
			ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 1500)}, OOB: make([]byte, 128)}
		}
		for {
			n, err := s.ReadBatch(ms, 0)
			if err != nil {
				close(out)
				return
			}
			for _, m := range ms[:n] {
				out <- m.Addr.String() + " " + string(m.Buffers[0][1+idSize:m.N])
			}
		}
	}()
	return out
}

func next(t *testing.T, from <-chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%q did not come", want)
	}
}

// TestPacketsFindTheirProcess leads packets to the process whose connection they are for, over two others, and
// has one whose successor failed read again.
func TestPacketsFindTheirProcess(t *testing.T) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h := holder(t)
	pc2, pc3 := again(t, pc), again(t, pc)
	client, err := net.Dial("udp4", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	from := client.LocalAddr().String() + " "
	send := func(p []byte) {
		t.Helper()
		if _, err := client.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	one := open(t, pc, h)
	one.Take()
	first := reads(one)
	send(short(t, one, "alone"))
	next(t, first, from+"alone")
	two := open(t, pc2, h)
	two.Take()
	<-one.taken
	second := reads(two)
	three := open(t, pc3, h)
	three.Take()
	<-two.taken
	third := reads(three)
	for range 20 {
		send(short(t, one, "one"))
		send(short(t, two, "two"))
		send(short(t, three, "three"))
		next(t, first, from+"one")
		next(t, second, from+"two")
		next(t, third, from+"three")
	}
	unknown := &Socket{tag: newTag()}
	send(short(t, unknown, "nobody's"))
	next(t, third, from+"nobody's")
	three.Close()
	if _, open := <-third; open {
		t.Error("a closed socket reads")
	}
	two.resume()
	send(short(t, one, "one again"))
	next(t, first, from+"one again")
	two.Leave()
	two.resume() // it ends: it is not to read any more, if it did not
	if leading, _, _, _ := two.state(); !leading {
		t.Error("a process that ends has nobody read the socket")
	}
}

func TestTags(t *testing.T) {
	tg := newTag()
	id, err := tg.GenerateConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0xe0, 0, 0, 0, 1, idSize}, id.Bytes()...)
	for name, c := range map[string]struct {
		packet []byte
		want   bool
	}{
		"short":              {append([]byte{0x40}, id.Bytes()...), true},
		"long":               {long, true},
		"other length":       {append([]byte{0xe0, 0, 0, 0, 1, 8}, id.Bytes()...), false},
		"cut":                {long[:10], false},
		"nothing":            {nil, false},
		"other":              {bytes.Repeat([]byte{0x40}, 40), false},
		"another's long one": {bytes.Repeat([]byte{0xc0}, 40), false},
	} {
		if tg.on(c.packet) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// FuzzPass reads messages between processes as they are, and whatever else comes.
func FuzzPass(f *testing.F) {
	m := ipv4.Message{Buffers: [][]byte{[]byte("packet")}, N: 6, OOB: []byte("control"), NN: 7, Addr: &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4).To4(), Port: 5}}
	f.Add(pack(&m))
	m.Addr = &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 65535}
	f.Add(pack(&m))
	f.Add([]byte{passes, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		got := ipv4.Message{Buffers: [][]byte{make([]byte, 1500)}, OOB: make([]byte, 128)}
		if !unpack(data, &got) || got.N == 1500 || got.NN == 128 {
			return
		}
		round := ipv4.Message{Buffers: [][]byte{make([]byte, 1500)}, OOB: make([]byte, 128)}
		if !unpack(pack(&got), &round) || round.N != got.N || round.NN != got.NN || round.Addr.String() != got.Addr.String() {
			t.Errorf("%v became %v", got, round)
		}
	})
}
