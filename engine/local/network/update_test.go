package network

import (
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/marucloud/maru"
)

// While the endpoints of a service change all the time, no connection to it fails and none is cut.
func TestUpdateUnderTraffic(t *testing.T) {
	h := newHost(t, Config{})
	stop := h.running()
	web, db := shop.Service("web"), shop.Service("db")
	w := h.instance("web-1-a", specOf(web))
	var all []place
	for i := range 6 {
		all = append(all, h.instance(fmt.Sprintf("db-1-%d", i), specOf(db)))
	}
	h.update(true, traffic(web, 10, w), traffic(db, 11, all...))
	open, err := w.dial("tcp", netip.AddrPortFrom(virtual(11).V4, 5432))
	check(t, err)
	defer open.Close()
	check(t, open.SetDeadline(time.Now().Add(time.Minute)))

	ended := make(chan struct{})
	var callers sync.WaitGroup
	var calls [3]int
	for i := range calls {
		callers.Go(func() {
			for f := families[i%2]; ; {
				select {
				case <-ended:
					return
				default:
				}
				if got := w.ask("tcp", byFamily(virtual(11), f), 5432); !strings.HasPrefix(got, "db-1-") {
					t.Errorf("a call failed: %s", got)
				}
				calls[i]++
			}
		})
	}
	for i := range 400 {
		services := []maru.ServiceTraffic{traffic(db, 11, all[i%5:i%5+1+i%2]...)}
		if i%7 == 0 {
			services = []maru.ServiceTraffic{traffic(db, 11, all...)}
		}
		if i%10 == 0 { // as when the server comes back
			h.update(true, append(services, traffic(web, 10, w))...)
		} else {
			h.update(false, services...)
		}
		if i%50 == 0 { // as when another program flushed the rules
			h.mu.Lock()
			check(t, h.rebuild())
			h.mu.Unlock()
		}
		if i%100 == 99 { // a new process
			stop()
			h.Network = newNetwork(t, Config{RunDir: h.cfg.RunDir})
			check(t, h.Setup(t.Context()))
			stop = h.running()
		}
	}
	close(ended)
	callers.Wait()
	t.Log("calls:", calls)
	b := make([]byte, 100)
	_, err = open.Read(b)
	check(t, err)
	_, err = open.Write([]byte("x"))
	check(t, err)
	if _, err := open.Read(b); err != nil {
		t.Errorf("the open connection: %v", err)
	}
}

// A UDP client that goes on sending from one socket gets another endpoint when its own is gone.
func TestUDPFlowsFollow(t *testing.T) {
	h := newHost(t, Config{})
	web, db := shop.Service("web"), shop.Service("db")
	w, a, b := h.instance("web-1-a", specOf(web)), h.instance("a", specOf(db)), h.instance("b", specOf(db))
	for _, f := range families {
		h.update(true, traffic(web, 10, w), traffic(db, 11, a))
		c, err := w.dial("udp", netip.AddrPortFrom(byFamily(virtual(11), f), 5432))
		check(t, err)
		defer c.Close()
		answers := func(name string) bool {
			_, _ = c.Write([]byte("?")) // fails with what an earlier one came to
			check(t, c.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			return err == nil && strings.HasPrefix(string(buf[:n]), name+" ")
		}
		eventually(t, "a answers", func() bool { return answers("a") })
		both := traffic(db, 11, a, b)
		both.Endpoints[0].Draining = true
		h.update(false, both)
		check(t, h.clean())
		if !answers("a") {
			t.Error("the flow did not stay while draining")
		}
		h.update(false, traffic(db, 11, b))
		check(t, h.clean())
		eventually(t, "b answers", func() bool { return answers("b") })
	}
}

// kernelElements are the elements of the table as the kernel has them, of instances and of services.
func kernelElements(t testing.TB, cfg Config) (map[elementKey]bool, *tableState) {
	t.Helper()
	n := newNetwork(t, cfg)
	own, err := n.readTable(map[string]bool{})
	check(t, err)
	return own, n.state
}

// holds tells where the kernel is not as the state says.
func (h *host) holds() string {
	h.t.Helper()
	own, state := kernelElements(h.t, h.cfg)
	want, got := map[elementKey]string{}, map[elementKey]string{}
	for k, o := range h.state.elements {
		want[k] = o.value
	}
	for k, o := range state.elements {
		got[k] = o.value
	}
	wantOwn := map[elementKey]bool{}
	for _, a := range h.attached {
		for _, e := range slices.Concat(a.elements(), h.joined(a)) {
			wantOwn[e.elementKey] = true
		}
	}
	return cmp.Diff(want, got) + cmp.Diff(wantOwn, own) + cmp.Diff(h.state.made.sets, onlyMade(state.made.sets))
}

func onlyMade(sets map[string]bool) map[string]bool {
	out := maps.Clone(sets)
	maps.DeleteFunc(out, func(name string, _ bool) bool { return !strings.Contains(name, "-") })
	return out
}

// Whatever steps come, with processes that begin in between, the kernel holds what the state says.
func TestKernelHoldsState(t *testing.T) {
	h := newHost(t, Config{})
	h.instance("a-0", specOf(shop.Service("a"), "x"))
	h.instance("b-0", specOf(shop.Service("b"), "x", "y"))
	h.update(true)
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				next := newNetwork(h.t, Config{RunDir: h.cfg.RunDir})
				check(h.t, next.Setup(h.t.Context()))
				h.Network = next
				u := drawUpdate(t)
				u.Full = true
				check(h.t, h.Update(u))
			case 1:
				check(h.t, h.prune())
			case 2:
				h.mu.Lock()
				check(h.t, h.rebuild())
				h.mu.Unlock()
			default:
				check(h.t, h.Update(drawUpdate(t)))
			}
			if diff := h.holds(); diff != "" {
				t.Fatal(diff)
			}
		}
	})
	check(t, h.prune())
	h.update(true)
	check(t, h.prune())
	if chains, sets := h.state.unneeded(); len(chains)+len(sets) > 0 {
		t.Errorf("remain: %v %v", chains, sets)
	}
	if rules := ruleset(t); strings.Contains(rules, "may-") || strings.Contains(rules, "group4-") {
		t.Errorf("remains:\n%s", rules)
	}
}

// People save what nft lists and load it again: it must be what nft understands.
func TestRulesetIsReadable(t *testing.T) {
	h := newHost(t, Config{})
	w := h.instance("web-1-a", specOf(shop.Service("web")))
	s := traffic(shop.Service("web"), 10, w)
	s.Ports = []maru.Port{{Port: 80, Protocol: maru.TCP, App: "http"}}
	s.Allow = []string{"api"}
	s.Endpoints = append(s.Endpoints, endpoints(1, 3)...)
	h.update(true, s)
	listed := ruleset(t)
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + listed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, listed)
	}
	if diff := cmp.Diff(listed, ruleset(t)); diff != "" {
		t.Errorf("not the same when loaded again:\n%s", diff)
	}
	if got := w.ask("tcp", w.V4, 5432); got != "web-1-a "+w.V4.String() {
		t.Errorf("got %s", got)
	}
}
