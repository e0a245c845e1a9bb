// Command bench measures Maru against its bars and its peers on this machine, and prints one table.
// "make bench" runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/test/host"
)

func main() {
	var options options
	flag.IntVar(&options.runs, "runs", 20, "runs of each measurement")
	flag.IntVar(&options.many, "many", 100, "instances in the measurement of many")
	flag.StringVar(&options.only, "only", "", "only measurements whose name contains this")
	flag.Parse()
	if os.Getenv("MARU_BENCH_MODULES") == "" {
		// What builds need is fetched while there is a network still.
		if err := os.Setenv("MARU_BENCH_MODULES", fetchModules()); err != nil {
			fail(err)
		}
	}
	inside, code := host.Enter()
	if !inside {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := options.measure(ctx)
	stop()
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

type options struct {
	runs, many int
	only       string
}

// row is one line of the table.
type row struct {
	what, bar, measured, peer string
	met                       bool
}

func (o options) measure(ctx context.Context) error {
	fmt.Printf("| what | bar | Maru | beside it | met |\n|---|---|---|---|---|\n")
	missed := 0
	for _, m := range []struct {
		name string
		do   func(context.Context, options) ([]row, error)
	}{
		{"start", measureStart}, {"instance", measureInstance}, {"many", measureMany}, {"same", measureUnchanged},
		{"changed", measureChanged}, {"push", measurePush}, {"successor", measureSuccessor}, {"control", measureControl},
	} {
		if !strings.Contains(m.name, o.only) {
			continue
		}
		rows, err := m.do(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		for _, r := range rows {
			met := "yes"
			if r.bar == "" {
				met = ""
			} else if !r.met {
				met = "NO"
				missed++
			}
			fmt.Printf("| %s | %s | %s | %s | %s |\n", r.what, r.bar, r.measured, r.peer, met)
		}
	}
	if missed > 0 {
		fmt.Printf("\n%d bars are missed.\n", missed)
	}
	return nil
}

// with runs a measurement on a machine of its own.
func with(do func(m *host.Machine, c *client.Client) ([]row, error), environment ...string) (rows []row, err error) {
	m, err := host.New()
	if err != nil {
		return nil, err
	}
	defer func() {
		if purged := m.Purge(); err == nil {
			err = purged
		}
	}()
	if err := m.Up(environment...); err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{Socket: m.Layout.ServerSocket()})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	rows, err = do(m, c)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, m.Log(4000))
	}
	return rows, err
}

// times are how long the runs of a measurement took.
type times []time.Duration

func (t times) at(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func (t times) String() string {
	return fmt.Sprintf("%s / %s (p50 / p95 of %d)", round(t.at(50)), round(t.at(95)), len(t))
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20)) }
