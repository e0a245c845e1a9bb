package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/marucloud/maru/client"
	"github.com/marucloud/maru/test/host"
)

var processes = []string{"start", "server", "proxy", "runtime"}

// measureStart measures the way from nothing to an API that answers, and what the platform takes idle.
func measureStart(ctx context.Context, o options) ([]row, error) {
	var fresh, again times
	for range min(o.runs, 10) {
		m, err := host.New()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		err = m.Up()
		if err == nil {
			_, err = m.Processes(ctx)
		}
		fresh = append(fresh, time.Since(began))
		if err == nil {
			var took time.Duration
			took, err = serverAgain(ctx, m)
			again = append(again, took)
		}
		if purged := m.Purge(); err == nil {
			err = purged
		}
		if err != nil {
			return nil, err
		}
	}
	rows := []row{
		{what: "empty machine to all processes ready and the API answering", bar: "1.5 s", measured: fresh.String(), met: fresh.at(50) <= 1500*time.Millisecond},
		{what: "server killed to its API answering", bar: "1.5 s", measured: again.String(), met: again.at(50) <= 1500*time.Millisecond},
	}
	idle, err := with(func(m *host.Machine, _ *client.Client) ([]row, error) { return idleRows(ctx, m) })
	return append(rows, idle...), err
}

func serverAgain(ctx context.Context, m *host.Machine) (time.Duration, error) {
	former, err := m.Kill("server")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	ok := host.Wait(ctx, time.Minute, func() bool {
		if pid := m.PID("server"); pid == 0 || pid == former {
			return false
		}
		_, err := m.Processes(ctx)
		return err == nil
	})
	if !ok {
		return 0, fmt.Errorf("the server did not come back")
	}
	return time.Since(began), nil
}

func idleRows(ctx context.Context, m *host.Machine) ([]row, error) {
	const settle, window = 5 * time.Second, 20 * time.Second
	if err := wait(ctx, settle); err != nil {
		return nil, err
	}
	before := ticks(m)
	if err := wait(ctx, window); err != nil {
		return nil, err
	}
	used := float64(ticks(m)-before) / 100 / window.Seconds()
	total, parts := platformMemory(m)
	return []row{
		{what: "idle memory (PSS) of all processes", bar: "150 MB", measured: megabytes(total) + " (" + parts + ")", met: total <= 150<<20},
		{what: "idle CPU of all processes", bar: "1 % of a core", measured: fmt.Sprintf("%.2f %%", 100*used), met: used <= 0.01},
	}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func platformMemory(m *host.Machine) (total int64, parts string) {
	var all []string
	for _, p := range processes {
		taken := host.Memory(m.PID(p))
		total += taken
		all = append(all, p+" "+megabytes(taken))
	}
	return total, strings.Join(all, ", ")
}

// ticks gives the CPU time of all processes in hundredths of a second.
func ticks(m *host.Machine) int64 {
	var sum int64
	for _, p := range processes {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.PID(p)))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(content), ") ")
		for _, field := range strings.Fields(rest)[11:13] {
			n, _ := strconv.ParseInt(field, 10, 64)
			sum += n
		}
	}
	return sum
}
