package network

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestExp(t *testing.T) {
	mode := os.Getenv("MODE")
	h := newHost(t, Config{})
	web, db := shop.Service("web"), shop.Service("db")
	w := h.instance("web-1-a", specOf(web))
	var all []place
	for i := range 6 {
		all = append(all, h.instance(fmt.Sprintf("db-1-%d", i), specOf(db)))
	}
	h.update(true, traffic(web, 10, w), traffic(db, 11, all...))
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var calls [3]int
	var fails [3]int
	for i := range calls {
		callers.Go(func() {
			for f := families[i%2]; ; {
				select {
				case <-stop:
					return
				default:
				}
				if got := w.ask("tcp", byFamily(virtual(11), f), 5432); !strings.HasPrefix(got, "db-1-") {
					fails[i]++
				}
				calls[i]++
			}
		})
	}
	for i := range 2000 {
		switch mode {
		case "incr":
			h.update(false, traffic(db, 11, all[i%5:i%5+1+i%2]...))
		case "grow":
			h.update(false, traffic(db, 11, all[:3+i%2]...))
		case "shift":
			h.update(false, traffic(db, 11, all[i%4:i%4+2]...))
		case "rebuild":
			if i % 4 == 0 {
			h.mu.Lock()
			check(t, h.rebuild())
			h.mu.Unlock()
			}
		}
	}
	close(stop)
	callers.Wait()
	t.Log(mode, calls, fails)
}
