package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// ways are how requests come to a proxy: a name, and what sends them and gives how many were answered.
var ways = [...]struct {
	name string
	load func(ctx context.Context, p *proxy, connections int, d time.Duration) (int, error)
}{
	{"HTTP/1.1", func(ctx context.Context, p *proxy, connections int, d time.Duration) (int, error) {
		return wrk(ctx, "http://"+p.address+"/", connections, d)
	}},
	{"HTTP/1.1 by TLS", func(ctx context.Context, p *proxy, connections int, d time.Duration) (int, error) {
		return wrk(ctx, "https://localhost:"+portOf(p.secure)+"/", connections, d)
	}},
	{"HTTP/2 by TLS", h2load},
}

var (
	wrkDone    = regexp.MustCompile(`(\d+) requests in`)
	h2loadDone = regexp.MustCompile(`(\d+) succeeded, 0 failed, 0 errored`)
	h2loadGood = regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`)
)

func wrk(ctx context.Context, url string, connections int, d time.Duration) (int, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(connections), fmt.Sprintf("-d%ds", d/time.Second), url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w; run scripts/deps.sh bench\n%s", err, out)
	}
	m := wrkDone.FindSubmatch(out)
	if m == nil || regexp.MustCompile(`Non-2xx`).Match(out) {
		return 0, fmt.Errorf("wrk: %s", out)
	}
	return strconv.Atoi(string(m[1]))
}

// streams are the requests at once on a connection of HTTP/2.
const streams = 4

func h2load(ctx context.Context, p *proxy, connections int, d time.Duration) (int, error) {
	out, err := exec.CommandContext(ctx, "h2load", "-c"+strconv.Itoa(connections/streams), "-m"+strconv.Itoa(streams),
		fmt.Sprintf("-D%d", d/time.Second), "https://localhost:"+portOf(p.secure)+"/").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("h2load: %w; run scripts/deps.sh bench\n%s", err, out)
	}
	m := h2loadDone.FindSubmatch(out)
	if m == nil || !h2loadGood.Match(out) || !regexp.MustCompile(`Application protocol: h2`).Match(out) {
		return 0, fmt.Errorf("h2load: %s", out)
	}
	return strconv.Atoi(string(m[1]))
}

const get = "GET / HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\n\r\n"

// ask sends a request on a connection and reads the answer.
func ask(c net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(c, get); err != nil {
		return err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err == nil && (res.StatusCode != 200 || n != int64(len(body))) {
		err = fmt.Errorf("answered %s with %d bytes", res.Status, n)
	}
	return err
}

// peersIdle is the most idle connections of proxies that need two files for each.
const peersIdle = 4000

// idleMemory opens connections, each of which has had an answer, and sees what memory they take.
func (o options) idleMemory(all []*proxy) error {
	for i, p := range all {
		if i > 0 {
			o.idle = min(o.idle, peersIdle)
		}
		var err error
		if p.idle, err = o.idleAt(p, func() (net.Conn, error) { return net.Dial("tcp", p.address) }); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.tls, err = o.idleAt(p, func() (net.Conn, error) {
			return tls.Dial("tcp", p.secure, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // made a moment ago
		}); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// settle is how long memory is given to settle after the connections fell idle.
const settle = 5 * time.Second

func (o options) idleAt(p *proxy, dial func() (net.Conn, error)) (int64, error) {
	before, err := p.pss()
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, 0, o.idle)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range o.idle {
		c, err := dial()
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
		if err := ask(c, bufio.NewReader(c)); err != nil {
			return 0, err
		}
	}
	time.Sleep(settle)
	after, err := p.pss()
	return (after - before) / int64(o.idle), err
}

const (
	rate         = 1000 // requests a second
	measuredFor  = 6 * time.Second
	latencyConns = 16
)

// latency sends requests at a fixed rate to the backend and through each proxy, to both at once.
func (o options) latency(ctx context.Context, all []*proxy, backend string) error {
	for _, p := range all {
		var took [2]durations
		var group errgroup.Group
		for i := range 2 * latencyConns {
			address := []string{backend, p.address}[i%2]
			after := time.Second * time.Duration(i) / (2 * rate)
			group.Go(func() error { return took[i%2].at(ctx, address, after) })
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		for i, percent := range []int{50, 99} {
			p.added[i] = took[1].percentile(percent) - took[0].percentile(percent)
		}
	}
	return nil
}

// durations are how long requests took.
type durations struct {
	mu   sync.Mutex
	list []time.Duration
}

// at sends one connection's share of the requests, the first of them after a while.
func (d *durations) at(ctx context.Context, address string, after time.Duration) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	const every = time.Second * latencyConns / rate
	r := bufio.NewReader(c)
	end := time.Now().Add(measuredFor)
	for next := time.Now().Add(after); next.Before(end) && ctx.Err() == nil; next = next.Add(every) {
		time.Sleep(time.Until(next))
		began := time.Now()
		if err := ask(c, r); err != nil {
			return err
		}
		took := time.Since(began)
		d.mu.Lock()
		d.list = append(d.list, took)
		d.mu.Unlock()
	}
	return ctx.Err()
}

func (d *durations) percentile(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(d.list))
	return sorted[len(sorted)*percent/100]
}
