// Command program is what the tests run in instances. Its first argument says what to do.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const address = ":8080"

func main() {
	behaviour := "serve"
	if len(os.Args) > 1 {
		behaviour = os.Args[1]
	}
	args := os.Args[min(len(os.Args), 2):]
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	switch behaviour {
	case "serve", "stubborn", "crash-after-ready":
		fmt.Println("starting")
		serve(behaviour, signals)
	case "idle":
		fmt.Println("starting")
		<-signals
	case "fail":
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(7)
	case "succeed":
		fmt.Println("starting")
	case "greet": // speaks first, as databases and mail servers do
		go greet()
		<-signals
	case "lines":
		lines(args[0])
	default:
		tool(behaviour, args)
	}
}

func serve(behaviour string, signals chan os.Signal) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from", hostname()) })
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(code)
	})
	mux.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) { eat(1 << 30) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("/tmp/sick"); err == nil {
			http.Error(w, "not feeling well", http.StatusServiceUnavailable)
		}
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for range signals {
			if behaviour != "stubborn" {
				os.Exit(0)
			}
		}
	}()
	if behaviour == "crash-after-ready" {
		go func() {
			time.Sleep(300 * time.Millisecond)
			os.Exit(3)
		}()
	}
	_ = http.Serve(listener, mux)
}

func greet() {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			fmt.Fprint(conn, "220 mail.example.com ready\r\n")
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

func lines(count string) {
	n, _ := strconv.Atoi(count)
	out := bufio.NewWriter(os.Stdout)
	for i := range n {
		fmt.Fprintln(out, "line", i)
	}
	_ = out.Flush()
	select {}
}

// tool does small things for exec.
func tool(name string, args []string) {
	var err error
	switch name {
	case "id":
		groups, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "pwd":
		dir, _ := os.Getwd()
		fmt.Println(dir)
	case "hostname":
		fmt.Println(hostname())
	case "cat":
		if len(args) == 0 {
			_, err = io.Copy(os.Stdout, os.Stdin)
			break
		}
		for _, path := range args {
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				_, _ = os.Stdout.Write(content)
			}
		}
	case "write":
		err = os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644)
	case "ls":
		var entries []os.DirEntry
		if entries, err = os.ReadDir(args[0]); err == nil {
			for _, entry := range entries {
				fmt.Println(entry.Name())
			}
		}
	case "stat":
		var st syscall.Stat_t
		if err = syscall.Stat(args[0], &st); err == nil {
			fmt.Printf("%o %d %d\n", st.Mode&0o7777, st.Uid, st.Gid)
		}
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "sleep":
		time.Sleep(time.Hour)
	case "size": // of the terminal
		err = size()
	case "mount":
		err = syscall.Mount("none", "/mnt", "tmpfs", 0, "")
	case "fork":
		fork(args[0])
	case "dial":
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", args[0], time.Second); err == nil {
			_ = conn.Close()
		}
	default:
		fmt.Fprintln(os.Stderr, "what is", name)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fork starts so many sleeping processes and tells how many it got.
func fork(count string) {
	n, _ := strconv.Atoi(count)
	started := 0
	for range n {
		if exec.Command("/proc/self/exe", "sleep").Start() == nil {
			started++
		}
	}
	fmt.Println(started)
}

func eat(n int) {
	var eaten [][]byte
	for range n >> 20 {
		chunk := make([]byte, 1<<20)
		for i := 0; i < len(chunk); i += 4096 {
			chunk[i] = 1
		}
		eaten = append(eaten, chunk)
	}
	runtime.KeepAlive(eaten)
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}
