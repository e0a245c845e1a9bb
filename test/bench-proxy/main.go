// Command bench-proxy measures Maru's proxy beside nginx, HAProxy and Caddy as Debian has them: the
// processor time of one request, the memory of one idle connection, and what a request takes longer
// for the proxy in its way. All carry to the same backend and write their access log. "make
// bench-proxy" runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
)

type options struct {
	seconds, rounds, connections, idle int
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == serveCommand {
		if err := serveMaru(os.Args[2:]); err != nil {
			fail(err)
		}
		return
	}
	var o options
	flag.IntVar(&o.seconds, "seconds", 4, "how long each round of load lasts")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of load; the figure is their median")
	flag.IntVar(&o.connections, "connections", 64, "connections of the load")
	flag.IntVar(&o.idle, "idle", 4000, "idle connections")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := o.run(ctx)
	stop()
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench-proxy:", err)
	os.Exit(1)
}

// figures are one proxy's.
type figures struct {
	cpu       []time.Duration  // for one request, of each round
	idle, tls int64            // bytes for a connection
	memory    int64            // after the load
	added     [2]time.Duration // to a request: p50, p99
}

func (o options) run(ctx context.Context) (err error) {
	folder, err := os.MkdirTemp("", "bench-proxy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b, err := startBackend(ctx, folder)
	if err != nil {
		return err
	}
	defer b.stop()
	var all []*proxy
	defer func() {
		for _, p := range all {
			p.stop()
		}
	}()
	for _, start := range []func(context.Context, string, string) (*proxy, error){startMaru, startNginx, startHAProxy, startCaddy} {
		p, err := start(ctx, folder, b.address)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := o.latency(ctx, all, b.address); err != nil {
		return err
	}
	if err := o.load(ctx, all); err != nil {
		return err
	}
	if err := o.idleMemory(all); err != nil {
		return err
	}
	report(all)
	return nil
}

// load has each proxy work in turn, so that what else happens on the machine meets all alike.
func (o options) load(ctx context.Context, all []*proxy) error {
	for round := range o.rounds + 1 {
		for _, p := range all {
			d := time.Duration(o.seconds) * time.Second
			if round == 0 {
				d = time.Second // to warm up
			}
			before, err := p.processorTime()
			if err != nil {
				return err
			}
			n, err := wrk(ctx, p.address, o.connections, d)
			if err != nil {
				return err
			}
			after, err := p.processorTime()
			if err != nil {
				return err
			}
			if n == 0 {
				return errors.New(p.name + " answered nothing")
			}
			if round > 0 {
				p.cpu = append(p.cpu, (after-before)/time.Duration(n))
			}
		}
	}
	for _, p := range all {
		var err error
		if p.memory, err = p.pss(); err != nil {
			return err
		}
	}
	return nil
}

func (f *figures) median() time.Duration {
	return slices.Sorted(slices.Values(f.cpu))[len(f.cpu)/2]
}

func report(all []*proxy) {
	var nginx time.Duration
	for _, p := range all {
		if p.name == "nginx" {
			nginx = p.median()
		}
	}
	fmt.Println("| proxy | version | CPU for a request | to nginx's | added, p50 / p99 | memory under load | idle connection | idle, by TLS |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, p := range all {
		secure := "-"
		if p.secure != "" {
			secure = kilobytes(p.tls)
		}
		fmt.Printf("| %s | %s | %.1f µs | %.2f | %.0f / %.0f µs | %.1f MB | %s | %s |\n", p.name, p.version, micros(p.median()),
			float64(p.median())/float64(nginx), micros(p.added[0]), micros(p.added[1]), float64(p.memory)/(1<<20), kilobytes(p.idle), secure)
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func kilobytes(n int64) string { return fmt.Sprintf("%.1f KB", float64(n)/1024) }
