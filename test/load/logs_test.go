package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marucloud/maru/test/host"
)

const talkative = `
name: talk
services:
  web:
    image: example.test/service:1
    deploy: {replicas: 4}
    x-maru: {health: /healthz}
`

// TestLogsOfManyLines has four instances print numbered lines as fast as they can while the server, or the
// runtime, is killed and one reader does not read: each line is there once and in order, also afterwards.
func TestLogsOfManyLines(t *testing.T) {
	for _, c := range []struct {
		victim string
		lines  int
	}{{"server", 1_000_000}, {"runtime", 400_000}} {
		t.Run(c.victim, func(t *testing.T) {
			if n, err := strconv.Atoi(os.Getenv("MARU_LINES")); err == nil {
				c.lines = n
			}
			m := host.Start(t)
			m.LoadImage(t)
			m.Deploy(t, talkative)
			followManyLines(t, m, c.victim, c.lines/4)
			readManyLines(t, m, c.lines/4)
		})
	}
}

// followManyLines kills the victim while lines are printed, which goes faster than to follow them, and
// again while they are only read.
func followManyLines(t *testing.T, m *host.Machine, victim string, each int) {
	t.Helper()
	instances := m.Instances(t, "talk", "web")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	_, stopSlow := follow(ctx, t, m, true)
	defer stopSlow()
	lines, stopFollow := follow(ctx, t, m, false)
	defer stopFollow()
	memory := watchMemory(ctx, m, "server", "runtime")
	began := time.Now()
	for _, i := range instances {
		response, err := http.Post("http://"+i.AddressV4+":8080/count?n="+strconv.Itoa(each), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	seen := newCheck(each)
	kills, former := []int{1, each / 2, each * 8 / 3}, 0
	for !seen.complete(4) {
		select {
		case line := <-lines:
			seen.take(line)
		case <-time.After(60 * time.Second):
			t.Fatalf("no line within a minute: %s", seen)
		}
		if len(kills) > 0 && seen.total >= kills[0] {
			kills = kills[1:]
			former = killSuccessor(t, m, victim, former)
		}
	}
	told, grown := memory()
	t.Logf("followed %d lines in %s, %s", seen.total, time.Since(began).Round(time.Millisecond), told)
	if grown > flat {
		t.Errorf("memory does not stay flat: %s", told)
	}
	seen.report(t, "followed")
}

// readManyLines reads all that was printed, when the instances are gone.
func readManyLines(t *testing.T, m *host.Machine, each int) {
	t.Helper()
	m.Do(t, "scale", "--app", "talk", "web", "0")
	host.Eventually(t, time.Minute, "the instances are gone", func() bool {
		s, err := m.Status(t.Context(), "talk")
		return err == nil && len(s.Of("web").Instances) == 0
	})
	began := time.Now()
	later := newCheck(each)
	for line := range strings.Lines(m.Do(t, "logs", "--app", "talk", "-n", "0", "web")) {
		later.take(strings.TrimSuffix(line, "\n"))
	}
	t.Logf("read %d lines again in %s", later.total, time.Since(began).Round(time.Millisecond))
	later.report(t, "read afterwards")
}

// killSuccessor waits until the process is another than the former one and kills it.
func killSuccessor(t *testing.T, m *host.Machine, process string, former int) int {
	t.Helper()
	host.Eventually(t, 10*time.Second, process+" runs to be killed", func() bool {
		pid := m.PID(process)
		return pid != 0 && pid != former
	})
	killed, err := m.Kill(process)
	if err != nil {
		t.Fatal(err)
	}
	return killed
}

// follow runs maru logs --follow and gives its lines. A stalled one is never read from.
func follow(ctx context.Context, t *testing.T, m *host.Machine, stalled bool) (lines <-chan string, stop func()) {
	t.Helper()
	cmd := m.Command(ctx, "logs", "--app", "talk", "--follow", "-n", "0", "web")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1024)
	var reading sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	if !stalled {
		reading.Go(func() { readLines(ctx, out, found) })
	}
	var once sync.Once
	return found, func() {
		once.Do(func() {
			cancel()
			_ = cmd.Process.Kill()
			reading.Wait()
			_ = cmd.Wait()
		})
	}
}

func readLines(ctx context.Context, from io.Reader, to chan<- string) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		select {
		case to <- scanner.Text():
		case <-ctx.Done():
			return
		}
	}
}

// check follows the numbers of each instance's lines.
type check struct {
	each   int
	total  int
	next   map[string]int
	wrong  int
	wrongs []string
}

func newCheck(each int) *check { return &check{each: each, next: map[string]int{}} }

func (c *check) take(text string) {
	instance, line, _ := strings.Cut(text, " | ")
	n, err := strconv.Atoi(strings.TrimPrefix(line, "line "))
	if err != nil {
		return // what else the instance said
	}
	if want := c.next[instance]; n != want {
		if c.wrong++; len(c.wrongs) < 10 {
			c.wrongs = append(c.wrongs, fmt.Sprintf("%s: line %d after line %d", instance, n, want-1))
		}
	}
	c.next[instance] = n + 1
	c.total++
}

func (c *check) complete(instances int) bool {
	if len(c.next) < instances {
		return false
	}
	for _, next := range c.next {
		if next < c.each {
			return false
		}
	}
	return true
}

func (c *check) String() string {
	return fmt.Sprintf("%d lines, next %v, %d wrong: %s", c.total, c.next, c.wrong, strings.Join(c.wrongs, ", "))
}

func (c *check) report(t *testing.T, what string) {
	t.Helper()
	if c.wrong > 0 || c.total != 4*c.each || !c.complete(4) {
		t.Errorf("%s: %s", what, c)
	}
}

// flat is how much a process may grow while lines pass through it.
const flat = 48 << 20

// watchMemory samples what processes take until ctx ends; the function tells the first and the most, and
// the largest growth.
func watchMemory(ctx context.Context, m *host.Machine, processes ...string) func() (told string, grown int64) {
	var mu sync.Mutex
	first, most := map[string]int64{}, map[string]int64{}
	sample := func() {
		for _, p := range processes {
			taken := host.Memory(m.PID(p))
			mu.Lock()
			if first[p] == 0 {
				first[p] = taken
			}
			most[p] = max(most[p], taken)
			mu.Unlock()
		}
	}
	sample()
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				sample()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() (told string, grown int64) {
		mu.Lock()
		defer mu.Unlock()
		var parts []string
		for _, p := range processes {
			parts = append(parts, fmt.Sprintf("%s %d MB, at most %d MB", p, first[p]>>20, most[p]>>20))
			grown = max(grown, most[p]-first[p])
		}
		return strings.Join(parts, "; "), grown
	}
}
