package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// hogs are what programs do that should harm nobody else.
var hogs = map[string]func(until time.Time){"spin": spin, "multiply": multiply, "devour": devour}

func handleHogs(mux *http.ServeMux) {
	mux.HandleFunc("POST /spin", func(w http.ResponseWriter, r *http.Request) {
		threads, _ := strconv.Atoi(r.URL.Query().Get("threads"))
		wait, _ := time.ParseDuration(r.URL.Query().Get("for"))
		until := time.Now().Add(wait)
		for range threads {
			cmd := exec.Command("/proc/self/exe", "spin", until.Format(time.RFC3339Nano))
			if err := cmd.Start(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			go cmd.Wait()
		}
	})
	mux.HandleFunc("POST /multiply", func(w http.ResponseWriter, r *http.Request) {
		cmd := exec.Command("/proc/self/exe", "multiply", time.Now().Add(duration(r)).Format(time.RFC3339Nano))
		if err := cmd.Start(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		go cmd.Wait()
	})
	mux.HandleFunc("POST /devour", func(w http.ResponseWriter, r *http.Request) {
		cmd := exec.Command("/proc/self/exe", "devour", time.Now().Add(duration(r)).Format(time.RFC3339Nano))
		if err := cmd.Start(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, cmd.Wait())
	})
}

func duration(r *http.Request) time.Duration {
	wait, _ := time.ParseDuration(r.URL.Query().Get("for"))
	return wait
}

// spin uses a core until the moment.
func spin(until time.Time) {
	for n := 0; ; n++ {
		if n%1_000_000 == 0 && time.Now().After(until) {
			return
		}
	}
}

// multiply starts copies of itself, each of which does the same, until the moment: a fork bomb with an end.
func multiply(until time.Time) {
	for time.Now().Before(until) {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		if err := cmd.Start(); err == nil {
			go cmd.Wait()
		}
	}
}

// eat takes MiB of memory, for good if what it gives is kept.
func eat(mb int) []byte {
	eaten := make([]byte, mb<<20)
	for i := 0; i < len(eaten); i += 4096 {
		eaten[i] = 1
	}
	return eaten
}

// leaks is memory that is never given back.
type leaks struct {
	mu   sync.Mutex
	kept [][]byte
}

func (l *leaks) add(mb int) {
	if mb == 0 {
		return
	}
	more := eat(mb)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, more)
}

// devour takes memory as fast as it can until the moment.
func devour(until time.Time) {
	var eaten [][]byte
	for time.Now().Before(until) {
		eaten = append(eaten, eat(4))
	}
	fmt.Println(len(eaten))
}
