// Command idle runs in the virtual machine: "idle PID ADDRESS HOST COUNT" opens so many connections to a proxy,
// has an answer by each, sees what memory of the proxy's process each takes, and has another answer by each. It
// prints the bytes for a connection.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// parallel is how many connections are worked with at once.
const parallel = 16

func main() {
	bytes, err := measure(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
	fmt.Println(bytes)
}

func measure(args []string) (int64, error) {
	if len(args) != 4 {
		return 0, errors.New("usage: idle PID ADDRESS HOST COUNT")
	}
	pid, address, host := args[0], args[1], args[2]
	count, err := strconv.Atoi(args[3])
	if err != nil {
		return 0, err
	}
	before, err := pss(pid)
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, count)
	var quiet quiet
	err = each(conns, func(i int) (err error) {
		if conns[i], err = net.Dial("tcp", address); err != nil {
			return err
		}
		if err := ask(conns[i], host); err != nil {
			return err
		}
		quiet.add(conns[i])
		return quiet.refresh(host)
	})
	if err != nil {
		return 0, err
	}
	after, err := pss(pid)
	if err != nil {
		return 0, err
	}
	return (after - before) / int64(count), each(conns, func(i int) error { return ask(conns[i], host) })
}

// longest is how long a connection has nothing to do while others are opened: the proxy closes one after 3 minutes.
const longest = time.Minute

// quiet are connections that have an answer, the one that is quiet for longest first.
type quiet struct {
	mu    sync.Mutex
	conns []net.Conn
	since []time.Time
}

func (q *quiet) add(c net.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.conns, q.since = append(q.conns, c), append(q.since, time.Now())
}

// refresh has another answer by those that are quiet for too long.
func (q *quiet) refresh(host string) error {
	for {
		c := q.take()
		if c == nil {
			return nil
		}
		if err := ask(c, host); err != nil {
			return err
		}
		q.add(c)
	}
}

func (q *quiet) take() net.Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.conns) == 0 || time.Since(q.since[0]) < longest {
		return nil
	}
	c := q.conns[0]
	q.conns, q.since = q.conns[1:], q.since[1:]
	return c
}

// each does something for each connection, some at once, until one fails.
func each(conns []net.Conn, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var working sync.WaitGroup
	for range parallel {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(conns) && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					err = fmt.Errorf("connection %d: %w", i+1, err)
					failed.Store(&err)
				}
			}
		})
	}
	working.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// ask sends a request and reads its answer whole.
func ask(c net.Conn, host string) error {
	if _, err := fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// pss gives the memory of a process in bytes, of what it shares its part.
func pss(pid string) (int64, error) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("the kernel does not say")
}
