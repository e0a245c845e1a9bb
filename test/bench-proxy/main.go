// Command bench-proxy measures Maru's proxy beside nginx, HAProxy and Caddy as Debian has them: the
// processor time of one request, by HTTP/1.1 with and without TLS and by HTTP/2, the memory of one idle connection, and what a request takes longer
// for the proxy in its way. All carry to the same backend and write their access log. "make
// bench-proxy" runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
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
	flag.IntVar(&o.idle, "idle", 20000, "idle connections with Maru; with the others up to 4,000")
	flag.Parse()
	if err := o.raiseFiles(); err != nil {
		fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := o.run(ctx)
	stop()
	if err != nil {
		fail(err)
	}
}

// spareFiles are those that a proxy has open beside its idle connections.
const spareFiles = 500

// raiseFiles lets this program and those that it starts have as many files open as there are idle connections.
// Who may not raise the limit gets the connections that it allows.
func (o *options) raiseFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if want := uint64(o.idle + spareFiles); limit.Max < want {
		raised := syscall.Rlimit{Cur: want, Max: want}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return nil
		}
		o.idle = int(limit.Max) - spareFiles
		fmt.Fprintf(os.Stderr, "%d idle connections: the limit of open files is %d, and may not be raised\n", o.idle, limit.Max)
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench-proxy:", err)
	os.Exit(1)
}

// figures are one proxy's.
type figures struct {
	cpu       [][]time.Duration // for one request: by way, of each round
	idle, tls int64             // bytes for a connection
	memory    int64             // after the load
	added     [2]time.Duration  // to a request: p50, p99
}

func (o options) run(ctx context.Context) (err error) {
	folder, err := os.MkdirTemp("", "bench-proxy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := writeCertificate(folder); err != nil {
		return err
	}
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
	for way := range ways {
		for _, p := range all {
			p.cpu = append(p.cpu, nil)
		}
		for round := range o.rounds + 1 {
			d := time.Duration(o.seconds) * time.Second
			if round == 0 {
				d = time.Second // to warm up
			}
			for _, p := range all {
				took, err := o.round(ctx, p, way, d)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", p.name, ways[way].name, err)
				}
				if round > 0 && took == 0 {
					return fmt.Errorf("%s by %s: nothing was answered", p.name, ways[way].name)
				}
				if round > 0 {
					p.cpu[way] = append(p.cpu[way], took)
				}
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

// round gives the processor time of one request, 0 when none was answered.
func (o options) round(ctx context.Context, p *proxy, way int, d time.Duration) (time.Duration, error) {
	before, err := p.processorTime()
	if err != nil {
		return 0, err
	}
	n, err := ways[way].load(ctx, p, o.connections, d)
	if err != nil {
		return 0, err
	}
	after, err := p.processorTime()
	if err != nil || n == 0 {
		return 0, err
	}
	return (after - before) / time.Duration(n), nil
}

func (f *figures) median(way int) time.Duration {
	return slices.Sorted(slices.Values(f.cpu[way]))[len(f.cpu[way])/2]
}

func report(all []*proxy) {
	var nginx *proxy
	for _, p := range all {
		if p.name == "nginx" {
			nginx = p
		}
	}
	head, line := "| proxy | version |", "|---|---|"
	for _, w := range ways {
		head, line = head+" CPU for a request, "+w.name+" |", line+"---|"
	}
	fmt.Println(head + " added, p50 / p99 | memory under load | idle connection | idle, by TLS |")
	fmt.Println(line + "---|---|---|---|")
	for _, p := range all {
		fmt.Printf("| %s | %s |", p.name, p.version)
		for way := range ways {
			fmt.Printf(" %.1f µs, %.2f × nginx |", micros(p.median(way)), float64(p.median(way))/float64(nginx.median(way)))
		}
		fmt.Printf(" %.0f / %.0f µs | %.1f MB | %s | %s |\n", micros(p.added[0]), micros(p.added[1]), float64(p.memory)/(1<<20), kilobytes(p.idle), kilobytes(p.tls))
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func kilobytes(n int64) string { return fmt.Sprintf("%.1f KB", float64(n)/1024) }
