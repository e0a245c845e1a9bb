// Command service is what the end-to-end tests deploy: a small server that does as it is told.
//
// Environment: PORT (default 8080; "none" listens to nothing), READY_AFTER (a duration until /healthz answers 200,
// "never"), EXIT (code to end with at once), SAY (printed at start), VERSION (shown by /), TCP and UDP
// (addresses of servers that tell who they are and then echo), STUBBORN (stop signals are only told), FAIL (how many of
// each 100 requests of / are answered with 500).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(command(os.Args[1:]))
	}
	if text := os.Getenv("SAY"); text != "" {
		fmt.Println(text)
	}
	if code, err := strconv.Atoi(os.Getenv("EXIT")); err == nil {
		fmt.Fprintln(os.Stderr, "ending with code", code)
		os.Exit(code)
	}
	ctx, stop := untilSignal()
	defer stop()
	listenBeside(ctx)
	port := os.Getenv("PORT")
	if port == "none" {
		<-ctx.Done()
		return
	}
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: handler()}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		<-ctx.Done()
		server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// command runs instead of the server: "write PATH TEXT", "read PATH", "get URL", "link PATH", "list PATH", "fail", "count N", "exit CODE", "idle",
// "copy" (standard input to output), "id", "try WHAT…", "spin", "multiply" and "devour UNTIL".
func command(args []string) int {
	switch {
	case args[0] == "write" && len(args) == 3:
		if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	case args[0] == "read" && len(args) == 2:
		data, err := os.ReadFile(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Stdout.Write(data)
	case args[0] == "get" && len(args) == 2:
		return get(args[1])
	case args[0] == "link" && len(args) == 2:
		target, err := os.Readlink(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Print(target)
	case args[0] == "list" && len(args) == 2:
		entries, err := os.ReadDir(args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for _, entry := range entries {
			info, _ := entry.Info()
			fmt.Println(info.Mode(), info.Size(), entry.Name())
		}
	case args[0] == "count" && len(args) == 2:
		n, _ := strconv.Atoi(args[1])
		count(os.Stdout, n)
	case args[0] == "sleep":
		select {}
	case args[0] == "idle":
		ctx, stop := untilSignal()
		defer stop()
		<-ctx.Done()
	case args[0] == "exit" && len(args) == 2:
		code, _ := strconv.Atoi(args[1])
		return code
	case len(args) == 2 && hogs[args[0]] != nil:
		until, _ := time.Parse(time.RFC3339Nano, args[1])
		hogs[args[0]](until)
	case args[0] == "copy":
		io.Copy(os.Stdout, os.Stdin)
	case args[0] == "id":
		json.NewEncoder(os.Stdout).Encode(identity())
	case args[0] == "try" && len(args) >= 2:
		return try(args[1], args[2:])
	default:
		fmt.Fprintln(os.Stderr, "told to fail:", args)
		return 3
	}
	return 0
}

// count writes n numbered lines as fast as it can.
func count(to io.Writer, n int) {
	out := bufio.NewWriterSize(to, 64<<10)
	defer out.Flush()
	for i := range n {
		fmt.Fprintf(out, "line %d\n", i)
	}
}

func handler() http.Handler {
	began := time.Now()
	host, _ := os.Hostname()
	var counting sync.WaitGroup
	mux := http.NewServeMux()
	bad, _ := strconv.Atoi(os.Getenv("FAIL"))              // percent of the requests
	leak, _ := strconv.Atoi(os.Getenv("LEAK"))             // MiB for each request
	latency, _ := time.ParseDuration(os.Getenv("LATENCY")) // the median of a lognormal distribution with sigma = 1
	warmup, _ := strconv.Atoi(os.Getenv("WARMUP"))         // requests, until each takes no longer than LATENCY
	var kept leaks
	var asked atomic.Int64
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		took := float64(latency) * math.Exp(rand.NormFloat64())
		if asked.Add(1) <= int64(warmup) {
			took *= 5
		}
		<-time.After(time.Duration(took))
		kept.add(leak)
		if rand.IntN(100) < bad {
			http.Error(w, "told to fail", http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"instance": host, "version": os.Getenv("VERSION"), "path": r.URL.Path,
			"caller": r.Header.Get("X-Maru-Caller"), "user": r.Header.Get("X-Maru-User"), "protocol": r.Proto, "remote": r.RemoteAddr})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		after := os.Getenv("READY_AFTER")
		wait, err := time.ParseDuration(after)
		if after == "never" || err == nil && time.Since(began) < wait {
			http.Error(w, "the cache is not warm", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		wait, _ := time.ParseDuration(r.URL.Query().Get("for"))
		select {
		case <-time.After(wait):
			fmt.Fprint(w, host)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /exit", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		fmt.Fprintln(os.Stderr, "told to end with code", code)
		os.Exit(code)
	})
	mux.HandleFunc("POST /eat", func(w http.ResponseWriter, r *http.Request) {
		mb, _ := strconv.Atoi(r.URL.Query().Get("mb"))
		fmt.Fprint(w, len(eat(mb)))
	})
	mux.HandleFunc("POST /count", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		counting.Go(func() { count(os.Stdout, n) })
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(r.URL.Query().Get("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(data)
	})
	mux.HandleFunc("PUT /file", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(r.URL.Query().Get("path"), data, 0o644)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv(r.URL.Query().Get("name"))) })
	mux.HandleFunc("GET /resolve", func(w http.ResponseWriter, r *http.Request) {
		found, err := net.DefaultResolver.LookupHost(r.Context(), r.URL.Query().Get("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(found)
	})
	mux.HandleFunc("GET /fetch", func(w http.ResponseWriter, r *http.Request) {
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(r.URL.Query().Get("url"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
		io.Copy(w, response.Body)
	})
	mux.HandleFunc("GET /dial", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.URL.Query().Get("address"), time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn.Close()
	})
	handleNetwork(mux)
	handleHogs(mux)
	mux.HandleFunc("GET /ws", echoWebSocket)
	mux.HandleFunc("POST /test.Echo/Stream", echoStream)
	return mux
}
