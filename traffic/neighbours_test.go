package traffic_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// target is a proxy that harm is done to.
type target struct{ http, https string }

// attacks are clients that do harm until ctx ends, at a bounded rate.
var attacks = map[string]func(ctx context.Context, at target) error{
	"slow-heads": func(ctx context.Context, at target) error {
		var conns []net.Conn
		for range 500 {
			c, err := net.Dial("tcp", at.http)
			if err != nil {
				return err
			}
			defer c.Close()
			conns = append(conns, c)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web.test\r\nX-Slow: ")
		}
		return each(ctx, time.Millisecond, func(i int) error {
			_, _ = conns[i%len(conns)].Write([]byte("a")) // one that was ended takes none
			return nil
		})
	},
	"smuggling": func(ctx context.Context, at target) error {
		heads := []string{"Content-Length: 4\r\nTransfer-Encoding: chunked", "Content-Length: 1\r\nContent-Length: 2", " Folded: x", "A\x00: b"}
		return each(ctx, 5*time.Millisecond, func(i int) error {
			c, err := net.Dial("tcp", at.http)
			if err != nil {
				return err
			}
			defer c.Close()
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: web.test\r\n"+heads[i%len(heads)]+"\r\n\r\n0\r\n\r\nGET /slow HTTP/1.1\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
			return nil
		})
	},
	"half-handshakes": func(ctx context.Context, at target) error {
		hello, err := firstFlight("web.test")
		if err != nil {
			return err
		}
		return each(ctx, 10*time.Millisecond, func(int) error {
			c, err := net.Dial("tcp", at.https)
			if err != nil {
				return err
			}
			_, _ = c.Write(hello)
			time.AfterFunc(time.Second, func() { c.Close() })
			return nil
		})
	},
	"rapid-reset":  floods(resetFlood),
	"settings":     floods(settingsFlood),
	"pings":        floods(pingFlood),
	"continuation": floods(continuationFlood),
}

// each does something every so often until ctx ends.
func each(ctx context.Context, every time.Duration, do func(i int) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := do(i); err != nil {
				return err
			}
		}
	}
}

// floods has ten connections a second do the same until the proxy ends each.
func floods(once func(c *rawHTTP2, id uint32) error) func(context.Context, target) error {
	return func(ctx context.Context, at target) error {
		return each(ctx, 100*time.Millisecond, func(int) error {
			c, err := openHTTP2(at.https, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the harm is what counts
			if err != nil {
				return err
			}
			defer c.conn.Close()
			for id := uint32(1); once(c, id) == nil; id += 2 {
				if id > 1<<22 {
					return errors.New("the proxy does not end it")
				}
			}
			return nil
		})
	}
}

// attackVariable has the program of the tests attack instead: NAME HTTP HTTPS.
const attackVariable = "MARU_ATTACK"

// TestAttack is who attacks: another process, which gets what processor time nobody else wants, as if it
// were another machine.
func TestAttack(t *testing.T) {
	var name string
	var at target
	if n, _ := fmt.Sscan(os.Getenv(attackVariable), &name, &at.http, &at.https); n != 3 {
		t.Skip("it is run by TestNeighboursUnderAttack")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	fmt.Println("attacking")
	if err := attacks[name](ctx, at); err != nil {
		t.Error(err)
	}
}

// attack begins an attack and gives what ends it.
func attack(t *testing.T, name string, at target) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestAttack$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", attackVariable, name, at.http, at.https))
	var said strings.Builder
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SchedSetAttr(cmd.Process.Pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
		t.Fatal(err)
	}
	began := make([]byte, len("attacking"))
	if _, err := io.ReadFull(out, began); err != nil {
		t.Error(err)
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(&said, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %s\n%s", name, err, said.String())
		}
	}
}

// TestNeighboursUnderAttack: what others wait for an answer while clients do harm is at most twice what it was,
// one time of three; without MARU_TIMINGS, they are answered.
func TestNeighboursUnderAttack(t *testing.T) {
	timings := os.Getenv("MARU_TIMINGS") != ""
	lasts := 300 * time.Millisecond
	if timings {
		lasts = 5 * time.Second
	}
	w, _, _ := hostileWorld(t)
	wait := func(t *testing.T) time.Duration {
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		all := w.offer(ctx, 400)
		took, n := p99(all, 200)
		if n != len(all) {
			t.Errorf("%d of %d are answered", n, len(all))
		}
		return took
	}
	for name := range attacks {
		t.Run(name, func(t *testing.T) {
			for try := 1; ; try++ {
				before := wait(t)
				end := attack(t, name, target{w.http, w.https})
				during := wait(t)
				end()
				t.Logf("p99 %s, and %s before", during, before)
				if !timings || during <= 2*before {
					return
				}
				if try == 3 {
					t.Fatal("others wait longer, three times")
				}
			}
		})
	}
}
